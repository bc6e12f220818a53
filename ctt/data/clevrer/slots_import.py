"""Importing slots: from a pickle of the reference to a folder of memory-mapped files, in bounded memory.

The file is walked twice. First its instructions alone: that gives the place of every video and finds every mistake of
names, shapes and kinds before a byte is written. Then its bytes, once and in order: each video goes straight to its row,
and the checksum of the source is taken on the way. An interrupted import continues: videos that are on disk are
not written again, the source is read again for its checksum.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ctt.core.atomic_files import write_json
from ctt.core.build_context import stopping
from ctt.core.errors import DataError, Interrupted
from ctt.core.settings import digest
from ctt.data.clevrer.imported_slots import MANIFEST, ImportedSlots, Part, sha256_of, write_manifest
from ctt.data.data_settings import SPLITS
from ctt.data.scene import GIVEN
from ctt.data.synthetic.slot_encoder import SLOTS, WIDTH
from ctt.safeload import pickle_reader
from ctt.safeload.rebuild import Array, Span, shown

UNFINISHED = "unfinished.json"
FRAMES = (GIVEN, 160)
"""Frames a video may have: the given ones, or with the 32 of a rollout, which are left out."""
MOST_SCENES = 1_000_000
EVERY = 5.0
"""Seconds between two notes of how far an import is."""
BLOCK = 1 << 22

_NAME = re.compile(r"(?:video_)?(\d{1,12})(?:_pixels)?(?:\.mp4)?")
_SPLIT = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}

Progress = Callable[[int, int], None]
"""Called with the bytes read and all bytes."""


@dataclass(frozen=True)
class Video:
    """Where a video is in the source, and the row it goes to."""

    split: str
    name: str
    array: Array
    row: int = -1

    @property
    def reach(self) -> tuple[int, int]:
        """First byte in the source, and the one after the last."""
        span = self.array.span
        assert isinstance(span, Span)
        if span.encoding != "bytes":
            return span.offset, span.offset + span.size
        return span.offset + self.array.start, span.offset + self.array.start + self.array.size


def import_slots(source: Path, folder: Path, progress: Progress = lambda done, total: None) -> ImportedSlots:
    """Makes `folder` from `source`; if that is already done, says so by doing nothing.

    Raises DataError, naming split and video, for what is malformed, doubled, missing, refused or not finite.
    """
    source, folder = Path(source), Path(folder)
    if (folder / MANIFEST).exists():
        return _again(source, folder)
    videos, first, frames = survey(source)
    stat = source.stat()
    layout = digest([[v.split, v.name, *v.reach, v.array.dtype, v.row] for v in videos])
    mark = dict(size=stat.st_size, mtime_ns=stat.st_mtime_ns, layout=layout)
    counts = {split: sum(v.split == split for v in videos) for split in first}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done = _allocate(folder, counts, mark)
        sha256 = _copy(source, folder, videos, done, mark, progress)
        parts = {split: _part(folder, split, counts[split], first[split]) for split in counts}
        write_manifest(folder, parts, dict(name=source.name, size=stat.st_size, sha256=sha256), frames)
    except OSError as error:
        what = error.filename or folder
        raise DataError(
            f"the import stopped: {what}: {error.strerror or error}; the same command continues it"
        ) from None
    (folder / UNFINISHED).unlink(missing_ok=True)
    return ImportedSlots.open(folder)


def survey(source: Path) -> tuple[list[Video], dict[str, int], int]:
    """What the source holds: its videos in the order of their bytes, each split's first scene, frames a video.
    Raises DataError; reads names and shapes alone."""
    tree = pickle_reader.read(source)
    if not isinstance(tree, dict) or not tree:
        raise DataError(f"{source} must hold a dict of splits, not {_kind(tree)}")
    videos: list[Video] = []
    first: dict[str, int] = {}
    for key in sorted(tree, key=str):
        if key not in _SPLIT:
            raise DataError(f"{source}: {shown(key)} is no split; train, val and test are")
        if _SPLIT[key] in first:
            raise DataError(f"{source}: split {_SPLIT[key]} is there twice, as val and as validation")
        rows = _rows(source, key, tree[key])
        first[_SPLIT[key]] = rows[0]
        videos += rows[1]
    frames = Counter(video.array.shape[0] for video in videos)
    if len(frames) > 1:
        odd = next(video for video in videos if video.array.shape[0] == min(frames, key=lambda n: (frames[n], n)))
        raise DataError(
            f"{source}, split {odd.split}, video {odd.name}: has {odd.array.shape[0]} frames, others have "
            f"{max(frames, key=lambda n: (frames[n], n))}"
        )
    ordered = {split: first[split] for split in SPLITS if split in first}
    return sorted(videos, key=lambda v: (v.reach, v.split, v.row)), ordered, next(iter(frames))


def _rows(source: Path, split: str, entries: Any) -> tuple[int, list[Video]]:
    """The first scene of a split, and its videos with their rows."""
    where = f"{source}, split {split}"
    if not isinstance(entries, dict) or not entries:
        raise DataError(f"{where}: must hold a dict of videos, not {_kind(entries)}")
    named: dict[int, Video] = {}
    for name, array in entries.items():
        match = _NAME.fullmatch(str(name))
        if match is None or int(match[1]) >= MOST_SCENES:
            raise DataError(f"{where}: {shown(name)} is no video's name; 123_pixels.mp4 and video_00123.mp4 are")
        scene = int(match[1])
        if scene in named:
            raise DataError(f"{where}: video {scene} is there twice, as {named[scene].name} and as {name}")
        _check(f"{where}, video {name}", array)
        named[scene] = Video(_SPLIT[split], str(name), array)
    first, last = min(named), max(named)
    missing = [scene for scene in range(first, last + 1) if scene not in named]
    if missing:
        some = ", ".join(map(str, missing[:5])) + (" …" if len(missing) > 5 else "")
        raise DataError(f"{where}: {len(missing)} videos are missing between {first} and {last}: {some}")
    return first, [Video(v.split, v.name, v.array, scene - first) for scene, v in named.items()]


def _check(where: str, array: Any) -> None:
    if not isinstance(array, Array):
        raise DataError(f"{where}: must be an array, not {_kind(array)}")
    if np.dtype(array.dtype).newbyteorder("=") != np.float32:
        raise DataError(f"{where}: must be float32, not {np.dtype(array.dtype).name}")
    if len(array.shape) != 3 or array.shape[0] not in FRAMES or array.shape[1:] != (SLOTS, WIDTH):
        wanted = f"({GIVEN}, {SLOTS}, {WIDTH}), or {FRAMES[1]} frames with a rollout"
        raise DataError(f"{where}: must have the shape {wanted}, not {array.shape}")
    if not isinstance(array.span, Span):
        raise DataError(f"{where}: its numbers are not in the file")


def _kind(value: Any) -> str:
    return "nothing" if value in ({}, None) else type(value).__name__


def _again(source: Path, folder: Path) -> ImportedSlots:
    """A folder that is finished: right if it was made from this very file."""
    imported = ImportedSlots.open(folder)
    known = imported.source
    if source.exists() and (source.stat().st_size != known["size"] or sha256_of(source) != known["sha256"]):
        raise DataError(f"{folder} holds the import of another file ({known['name']}); name another folder with --to")
    return imported


def _file(folder: Path, split: str) -> Path:
    return folder / f"slots_{split}.npy"


ROW = GIVEN * SLOTS * WIDTH * 4
"""Bytes of a video."""


def _header(videos: int) -> bytes:
    """How the npy file of so many videos begins."""
    out = io.BytesIO()
    described = dict(descr="<f4", fortran_order=False, shape=(videos, GIVEN, SLOTS, WIDTH))
    np.lib.format.write_array_header_1_0(out, described)
    return out.getvalue()


def _allocate(folder: Path, counts: dict[str, int], mark: dict[str, Any]) -> int:
    """Makes the files at their full size; returns how many videos of an interrupted import are in them."""
    sizes = {split: len(_header(videos)) + videos * ROW for split, videos in counts.items()}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        note = json.loads((folder / UNFINISHED).read_text(encoding="utf-8"))
        if note["mark"] == mark and all(_file(folder, s).stat().st_size == size for s, size in sizes.items()):
            return int(note["done"])
    for split, videos in counts.items():
        with open(_file(folder, split), "wb") as file:
            file.write(_header(videos))
            file.flush()
            os.posix_fallocate(file.fileno(), 0, sizes[split])  # a disk too small is found now, not in an hour
    write_json(folder / UNFINISHED, dict(mark=mark, done=0))
    return 0


def _copy(source: Path, folder: Path, videos: list[Video], done: int, mark: dict[str, Any], progress: Progress) -> str:
    """Writes the rows of videos[done:]; returns the source's sha256. Written, not mapped: pages of a mapped file would
    count as this process's memory, all 9 GB of them."""
    counts = Counter(v.split for v in videos)
    total, last = mark["size"], time.monotonic()
    hashed = hashlib.sha256()
    position = 0

    def read_to(file: BinaryIO, end: int) -> Iterator[None]:
        nonlocal position
        file.seek(position)
        while position < end:
            block = file.read(min(BLOCK, end - position))
            if not block:
                raise DataError(f"{source} ends at byte {position}; it is being changed")
            hashed.update(block)
            position += len(block)
            yield

    with contextlib.ExitStack() as stack:
        out = {s: stack.enter_context(open(_file(folder, s), "r+b", buffering=0)) for s in sorted(counts)}
        starts = {split: len(_header(count)) for split, count in counts.items()}

        def note(number: int) -> None:
            for written in out.values():
                os.fsync(written.fileno())
            write_json(folder / UNFINISHED, dict(mark=mark, done=number))

        file = stack.enter_context(open(source, "rb"))
        for number, video in enumerate(videos):
            for _ in read_to(file, video.reach[1]):
                pass
            if number >= done:
                frames = np.ascontiguousarray(_frames(source, file, video), "<f4")
                _write(out[video.split], frames.data.cast("B"), starts[video.split] + video.row * ROW)
            progress(position, total)
            if stopping() or (number >= done and time.monotonic() - last > EVERY):
                note(max(number + 1, done))
                last = time.monotonic()
                if stopping():
                    raise Interrupted(f"the import stopped at video {number + 1}; the same command continues it")
        for _ in read_to(file, total):
            progress(position, total)
        note(len(videos))
    now = source.stat()
    if (now.st_size, now.st_mtime_ns) != (mark["size"], mark["mtime_ns"]):
        raise DataError(f"{source} was changed while it was imported; run the same command again")
    return hashed.hexdigest()


def _write(file: FileIO, data: memoryview, place: int) -> None:
    """All of `data` at `place`: a system may take less of it at a time."""
    while data:
        taken = os.pwrite(file.fileno(), data, place)
        data, place = data[taken:], place + taken


def _frames(source: Path, file: BinaryIO, video: Video) -> np.ndarray:
    try:
        frames = video.array.read(file)[:GIVEN]
    except (DataError, UnicodeError) as error:
        raise DataError(f"{source}, split {video.split}, video {video.name}: {error}") from None
    if not np.isfinite(frames).all():
        bad = np.argwhere(~np.isfinite(frames))[0]
        raise DataError(
            f"{source}, split {video.split}, video {video.name}: frame {bad[0]}, slot {bad[1]} is not finite "
            "(NaN or infinite)"
        )
    return frames


def _part(folder: Path, split: str, videos: int, first: int) -> Part:
    path = _file(folder, split)
    stat = path.stat()
    return Part(path.name, videos, first, stat.st_size, stat.st_mtime_ns, sha256_of(path))
