"""Dataset: the folder that the data stage writes and every later stage reads, synthetic or CLEVRER.

  dataset.json               {"name", "frames": 128, "slots": 7, "width": 128, "videos": {split: V},
                              "first_scene": {split: its first scene_index}}; splits train, validation, optionally test;
                              "elsewhere": {slots file: {"path", "size", "mtime_ns", "sha256"}} of large files outside
                              of the folder                                                 (CLEVRER's slots only)
  slots_<split>.npy          float32 (V, 128, 7, 128), video v being scene first_scene + v
  scenes_<split>.npy         int64 (V,), the scene of each video, where some are missing in between           (optional)
  questions_<split>.json     CLEVRER's own schema; without answers in the test split
  future_<split>.npy         float32 (V, 50, 7, 128), the slots of frames 128 to 177          (synthetic only)
  visible_<split>.npy        bool (V, 178, 7), the slot holds an object that is in view      (synthetic only)
  truth_<split>.<name>.npy   the simulated ground truth, see truth.py                        (synthetic only)
  annotations_<split>.zip    official annotation files                                       (data.annotations)
Arrays are memory-mapped: opening takes milliseconds, and jobs on one machine share the pages.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctt.core.errors import DataError
from ctt.data.clevrer.imported_slots import sha256_of
from ctt.data.data_settings import SPLITS
from ctt.data.scene import GIVEN, TOTAL
from ctt.data.synthetic.slot_encoder import SLOTS, WIDTH
from ctt.data.synthetic.truth import Truth, open_array

if TYPE_CHECKING:
    from ctt.data.questions.question_table import QuestionTable

MANIFEST = "dataset.json"


class Split:
    """One split: `slots` (V, 128, 7, 128), `future` (V, 50, 7, 128) or None, `visible` (V, 178, 7) or None."""

    def __init__(
        self, folder: Path, name: str, videos: int, first_scene: int, width: int = WIDTH, slots: Path | None = None
    ) -> None:
        self.folder, self.name, self.videos = folder, name, videos
        self.scene_index = np.arange(first_scene, first_scene + videos, dtype=np.int64)
        if (numbers := folder / f"scenes_{name}.npy").exists():
            self.scene_index = np.array(open_array(numbers, (videos,), "int64"))
        self.slots = open_array(slots or folder / f"slots_{name}.npy", (videos, GIVEN, SLOTS, width), "float32")
        self.future = self._optional("future", (videos, TOTAL - GIVEN, SLOTS, width), "float32")
        self.visible = self._optional("visible", (videos, TOTAL, SLOTS), "bool")
        if not self.questions_file.is_file():
            raise DataError(f"{self.questions_file} is missing")

    def _optional(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray | None:
        path = self.folder / f"{name}_{self.name}.npy"
        return open_array(path, shape, dtype) if path.exists() else None

    @property
    def questions_file(self) -> Path:
        return self.folder / f"questions_{self.name}.json"

    @cached_property
    def questions(self) -> QuestionTable:
        """All questions of the split as arrays; read at first use."""
        from ctt.data.questions.question_table import QuestionTable

        return QuestionTable.read(self.questions_file, self.scene_index)

    @property
    def has_truth(self) -> bool:
        return any(self.folder.glob(f"truth_{self.name}.*.npy"))

    @cached_property
    def truth(self) -> Truth:
        """The ground truth of the split. Raises DataError if there is none, as with real CLEVRER."""
        if not self.has_truth:
            raise DataError(f"{self.folder} has no ground truth for split {self.name}: only synthetic data has it")
        return Truth(self.folder, self.name, self.scene_index)


class Dataset:
    """The splits of one folder, by name; use `Dataset.open`."""

    def __init__(self, folder: Path, name: str, splits: dict[str, Split]) -> None:
        self.folder, self.name, self._splits = folder, name, splits

    @classmethod
    def open(cls, folder: Path) -> Dataset:
        """Opens the folder without reading arrays. Raises DataError naming the file that is missing or malformed."""
        folder = Path(folder)
        path = folder / MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{path} is missing: {folder} is not a data set") from None
        except (ValueError, OSError) as error:
            raise DataError(f"{path} is not valid JSON ({error})") from None
        videos, first = _checked(path, manifest)
        external = external_files(path, manifest)
        slots = {s: external.get(f"slots_{s}.npy") for s in videos}
        return cls(folder, manifest["name"], {s: Split(folder, s, videos[s], first[s], slots=slots[s]) for s in videos})

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._splits)

    @property
    def has_truth(self) -> bool:
        return all(split.has_truth for split in self._splits.values())

    def split(self, name: str) -> Split:
        """The split `name`. Raises DataError if the data set has no such split."""
        try:
            return self._splits[name]
        except KeyError:
            raise DataError(f"{self.folder} has no split {name!r}; it has {', '.join(self._splits)}") from None


def write_manifest(
    folder: Path,
    name: str,
    videos: dict[str, int],
    first_scene: dict[str, int],
    external: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Writes dataset.json, the last file of a data set: a folder without it is not one."""
    first = {split: first_scene[split] for split in videos}
    manifest: dict[str, Any] = dict(name=name, frames=GIVEN, slots=SLOTS, width=WIDTH, videos=videos, first_scene=first)
    if external:
        manifest["elsewhere"] = external
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def external_files(source: Path, manifest: dict[str, Any]) -> dict[str, Path]:
    """The files outside of the folder, by name. Raises DataError if one is missing or has changed."""
    found = {}
    try:
        for name, recorded in manifest.get("elsewhere", {}).items():
            path = Path(recorded["path"])
            try:
                stat = path.stat()
            except OSError:
                raise DataError(
                    f"{path} is missing: the data set {source.parent} reads its slots there. Restore it, or put a "
                    "symbolic link to its new place there"
                ) from None
            same = stat.st_mtime_ns == recorded["mtime_ns"] or sha256_of(path) == recorded["sha256"]
            if stat.st_size != recorded["size"] or not same:
                raise DataError(f"{path} has changed since the data set {source.parent} was made from it; restore it")
            found[name] = path
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{source}: elsewhere is malformed ({error})") from None
    return found


def _checked(path: Path, manifest: Any) -> tuple[dict[str, int], dict[str, int]]:
    if not isinstance(manifest, dict) or not isinstance(manifest.get("name"), str):
        raise DataError(f"{path} has no name")
    for key, value in (("frames", GIVEN), ("slots", SLOTS), ("width", WIDTH)):
        if manifest.get(key) != value:
            raise DataError(f"{path}: {key} must be {value}, got {manifest.get(key)!r}")
    videos: Any = manifest.get("videos")
    first: Any = manifest.get("first_scene")
    for key, value, minimum in (("videos", videos, 1), ("first_scene", first, 0)):
        if not isinstance(value, dict) or not value:
            raise DataError(f"{path}: {key} must map each split to a number")
        for split, number in value.items():
            if split not in SPLITS or type(number) is not int or number < minimum:
                raise DataError(f"{path}: {key} has the invalid entry {split!r}: {number!r}")
    if set(videos) != set(first):
        raise DataError(f"{path}: videos and first_scene must have the same splits")
    return videos, first
