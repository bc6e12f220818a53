"""Surveying slots before a byte is written: which videos there are, and every error in names, shapes and types."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ctt.core.errors import DataError
from ctt.data.data_format import BOUNDS, SPLITS
from ctt.data.scene import GIVEN
from ctt.data.slot_files.opening import open_slots
from ctt.data.slot_files.slot_array import BFLOAT16, SlotArray
from ctt.data.slot_files.unpacking import Progress
from ctt.data.slot_files.videos import MOST_SCENES, NAME, kind_name, splits_of, videos_of
from ctt.safeload.rebuild import shown

FRAMES = (GIVEN, 160)
"""Allowed frames per video: the given ones, or with the 32 of a rollout, which are not imported."""
SLOTS, WIDTHS = BOUNDS["slots"], BOUNDS["width"]
ROUNDED = {
    "float64": "float64: rounded to float32",
    "float16": "float16: written as float32",
    BFLOAT16: "bfloat16: written as float32",
}


@dataclass(frozen=True)
class Video:
    """A video's array in the source, and its row in the imported file."""

    split: str
    name: str
    array: SlotArray
    row: int


@dataclass
class Survey:
    """What a source holds: `videos` in the order of their bytes; by split, the scene numbers of its rows; the `shape` of each
    video; `files` that are hashed, in order; and `notes` on what was done to read them."""

    files: list[Path]
    videos: list[Video]
    scenes: dict[str, list[int]]
    shape: tuple[int, int, int]
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def changed(self) -> int:
        """The time of the last change, in nanoseconds."""
        return max(path.stat().st_mtime_ns for path in self.files)


def survey(source: Path, scratch: Path, progress: Progress = lambda done, total: None, gaps: bool = False) -> Survey:
    """The survey of a file or a folder. `gaps`: videos may be missing between the first and the last.

    Raises DataError for malformed, duplicate or missing videos."""
    found = open_slots(source, scratch, progress)
    videos: list[Video] = []
    scenes: dict[str, list[int]] = {}
    for split, (name, entries) in splits_of(found.tree, str(source), found.notes).items():
        named = _named(f"{source}, split {name}", split, videos_of(entries, f"{source}, split {name}"))
        scenes[split] = sorted(named)
        _check_gaps(f"{source}, split {name}", scenes[split], gaps)
        rows = {scene: row for row, scene in enumerate(scenes[split])}
        videos += [Video(split, text, array, rows[scene]) for scene, (text, array) in named.items()]
    shape = _one_shape(source, videos)
    types = Counter(_type(video.array.dtype) for video in videos)
    found.notes += [ROUNDED[name] for name in ROUNDED if name in types]
    videos.sort(key=lambda v: (v.array.reach, v.split, v.row))
    ordered = {split: scenes[split] for split in SPLITS if split in scenes}
    return Survey(found.files, videos, ordered, shape, list(dict.fromkeys(found.notes)))


def _named(where: str, split: str, entries: dict[str, SlotArray]) -> dict[int, tuple[str, SlotArray]]:
    """The videos by scene number, with their names."""
    named: dict[int, tuple[str, SlotArray]] = {}
    for name, array in entries.items():
        match = NAME.fullmatch(name)
        if match is None or int(match[1]) >= MOST_SCENES:
            raise DataError(f"{where}: {shown(name)} is no video's name; expected 123_pixels.mp4 or video_00123.mp4")
        scene = int(match[1])
        if scene in named:
            raise DataError(f"{where}: video {scene} occurs twice, as {named[scene][0]} and as {name}")
        _check(f"{where}, video {name}", array)
        named[scene] = (name, array)
    return named


def _check(where: str, array: Any) -> None:
    if not isinstance(array, SlotArray):
        raise DataError(f"{where}: must be an array, not {kind_name(array)}")
    if _type(array.dtype) not in ("float32", *ROUNDED):
        raise DataError(f"{where}: must be float32 (or float16, bfloat16, float64), not {_type(array.dtype)}")
    sizes = array.shape
    if len(sizes) == 3 and sizes[0] in FRAMES and all(a <= n <= b for n, (a, b) in zip(sizes[1:], (SLOTS, WIDTHS), strict=True)):
        return
    wanted = f"({GIVEN} frames, {SLOTS[0]} to {SLOTS[1]} slots, {WIDTHS[0]} to {WIDTHS[1]} numbers a slot)"
    raise DataError(f"{where}: must have the shape {wanted}, or {FRAMES[1]} frames with a rollout, not {sizes}")


def _type(dtype: str) -> str:
    return dtype if dtype == BFLOAT16 else np.dtype(dtype).name


def _check_gaps(where: str, scenes: list[int], gaps: bool) -> None:
    have = set(scenes)
    missing = [scene for scene in range(scenes[0], scenes[-1] + 1) if scene not in have]
    if missing and not gaps:
        some = ", ".join(map(str, missing[:5])) + (" …" if len(missing) > 5 else "")
        raise DataError(
            f"{where}: {len(missing)} videos are missing between {scenes[0]} and {scenes[-1]}: {some}; "
            "to import the others, add data.missing=skip"
        )


def _one_shape(source: Path, videos: list[Video]) -> tuple[int, int, int]:
    """The shape that all videos have."""
    for axis, what in ((1, "slots"), (2, "numbers a slot"), (0, "frames")):
        sizes = Counter(video.array.shape[axis] for video in videos)
        if len(sizes) > 1:
            odd = next(video for video in videos if video.array.shape[axis] == min(sizes, key=lambda n: (sizes[n], n)))
            raise DataError(
                f"{source}, split {odd.split}, video {odd.name}: has {odd.array.shape[axis]} {what}, others have "
                f"{max(sizes, key=lambda n: (sizes[n], n))}"
            )
    frames, slots, width = videos[0].array.shape
    return frames, slots, width
