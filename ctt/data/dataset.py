"""Dataset: the folder that the data stage writes and every later stage reads, whatever its source.

  dataset.json               the contract, see `ctt.data.data_format`; every later stage reads it from there:
                              {"name", "frames", "slots", "width": F, S and D below,
                              "categories": [{"name", "choices", "future"}], [] for data without questions,
                              "words", "answers", "question_length", "choice_length": the vocabulary,
                              "positions": the unit of objects' positions,
                              "videos": {split: V}, "first_scene": {split: its first scene_index};
                              splits train, validation, optionally test;
                              "elsewhere": {slots file: {"path", "size", "mtime_ns", "sha256"}} of large files outside
                              of the folder                                                 (CLEVRER's slots only)}
  slots_<split>.npy          float32 (V, F, S, D), video v being scene first_scene + v
  questions_<split>.json     CLEVRER's schema; without answers in the test split             (where questions are asked)
  future_<split>.npy         float32 (V, any number, S, D), the slots of the frames after the given ones      (optional)
  visible_<split>.npy        bool (V, given and future frames, S), the slot holds an object in view           (optional)
  truth_<split>.<name>.npy   the simulated ground truth, see truth.py                               (synthetic only)
  annotations_<split>.zip    official annotation files                                            (data.annotations)
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
from ctt.data.data_format import SPLITS, DataFormat, format_of
from ctt.data.synthetic.truth import Truth, open_array

if TYPE_CHECKING:
    from ctt.data.questions.question_table import QuestionTable

MANIFEST = "dataset.json"
NEEDED = ("train", "validation")
"""The splits that every data set has, with answers."""


class Split:
    """One split: `slots` (V,F,S,D), `future` (V,N,S,D) or None, `visible` (V, at least F+N, S) or None."""

    def __init__(
        self, folder: Path, name: str, videos: int, first_scene: int, data_format: DataFormat, slots: Path | None = None
    ) -> None:
        self.folder, self.name, self.videos, self.format = folder, name, videos, data_format
        self.scene_index = np.arange(first_scene, first_scene + videos, dtype=np.int64)
        frames, sizes = data_format.frames, (data_format.slots, data_format.width)
        self._remedy = f"; {MANIFEST} has frames {frames}, slots {sizes[0]}, width {sizes[1]}, videos {videos}: change either"
        shape = (videos, frames, *sizes)
        self.slots = open_array(slots or folder / f"slots_{name}.npy", shape, "float32", remedy=self._remedy)
        self.future = self._optional("future", (videos, 1, *sizes), "float32")
        known = frames + (0 if self.future is None else self.future.shape[1])
        self.visible = self._optional("visible", (videos, known, sizes[0]), "bool")
        if data_format.categories and not self.questions_file.is_file():
            raise DataError(f"{self.questions_file} is missing, and {MANIFEST} declares categories of questions")

    def _optional(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray | None:
        path = self.folder / f"{name}_{self.name}.npy"
        return open_array(path, shape, dtype, longer=1, remedy=self._remedy) if path.exists() else None

    @property
    def questions_file(self) -> Path:
        return self.folder / f"questions_{self.name}.json"

    @cached_property
    def questions(self) -> QuestionTable:
        """All questions of the split as arrays; read at first use."""
        from ctt.data.questions.question_table import QuestionTable

        if not self.format.categories:
            return QuestionTable.build([], self.scene_index, data_format=self.format)
        return QuestionTable.read(self.questions_file, self.scene_index, self.format)

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

    def __init__(self, folder: Path, name: str, data_format: DataFormat, splits: dict[str, Split]) -> None:
        self.folder, self.name, self.format, self._splits = folder, name, data_format, splits

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
        data_format, videos, first = _checked(path, manifest)
        external = external_files(path, manifest)
        slots = {s: external.get(f"slots_{s}.npy") for s in videos}
        splits = {s: Split(folder, s, videos[s], first[s], data_format, slots[s]) for s in videos}
        return cls(folder, manifest["name"], data_format, splits)

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

    def check(self, declared: DataFormat) -> None:
        """Reads all questions. Raises DataError if they or dataset.json are not as `declared`, or if train or validation is
        missing, or a question of theirs has no answer."""
        if differ := declared.differences(self.format):
            mine, theirs = self.format.as_json(), declared.as_json()
            name = differ[0]
            raise DataError(
                f"{self.folder / MANIFEST}: {name} is {mine[name]!r}, but the source declares {theirs[name]!r}; change either"
            )
        for name in NEEDED:
            if name not in self._splits:
                raise DataError(f"{self.folder / MANIFEST}: videos lacks the split {name}, which training needs")
        for name, split in self._splits.items():
            if not split.questions.answered and name in NEEDED:
                missing = f"{split.questions_file}, {split.questions.unanswered}"
                raise DataError(f"{missing}; {name} needs answers, only test may lack them")


def write_manifest(
    folder: Path,
    name: str,
    data_format: DataFormat,
    videos: dict[str, int],
    first_scene: dict[str, int],
    external: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Writes dataset.json, the last file of a data set: a folder without it is not one."""
    first = {split: first_scene[split] for split in videos}
    manifest: dict[str, Any] = {"name": name, **data_format.as_json(), "videos": videos, "first_scene": first}
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


def _checked(path: Path, manifest: Any) -> tuple[DataFormat, dict[str, int], dict[str, int]]:
    if not isinstance(manifest, dict) or not isinstance(manifest.get("name"), str):
        raise DataError(f"{path} has no name")
    try:
        data_format = format_of(manifest)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
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
    return data_format, videos, first
