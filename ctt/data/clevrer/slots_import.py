"""Importing slots: from a pickle of the reference to a folder of memory-mapped files, in bounded memory.

The file is read twice. First its opcodes only: they give the position of every video and reveal every error in
names, shapes and types before a byte is written. Then its bytes, in order: each video is written to its row, and the
checksum of the source is computed. An interrupted import continues: videos on disk are not written again; the source is
read again for its checksum.
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
from ctt.data.data_format import SPLITS
from ctt.data.scene import GIVEN
from ctt.data.synthetic.slot_encoder import SLOTS, WIDTH
from ctt.safeload import pickle_reader
from ctt.safeload.rebuild import Array, Span, shown

UNFINISHED = "unfinished.json"
FRAMES = (GIVEN, 160)
"""Allowed frames per video: the given ones, or with the 32 of a rollout, which are not imported."""
MOST_SCENES = 1_000_000
EVERY = 5.0
"""Seconds between two saves of an import's progress."""
BLOCK = 1 << 22

_NAME = re.compile(r"(?:video_)?(\d{1,12})(?:_pixels)?(?:\.mp4)?")
_SPLIT = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}

Progress = Callable[[int, int], None]
"""Called with the bytes read so far and the total."""


@dataclass(frozen=True)
class Video:
    """A video's array in the source, and its row in the imported file."""

    split: str
    name: str
    array: Array
    row: int = -1

    @property
    def reach(self) -> tuple[int, int]:
        """(first byte in the source, last byte + 1)."""
        span = self.array.span
        assert isinstance(span, Span)
        if span.encoding != "bytes":
            return span.offset, span.offset + span.size
        return span.offset + self.array.start, span.offset + self.array.start + self.array.size


def import_slots(source: Path, folder: Path, progress: Progress = lambda done, total: None) -> ImportedSlots:
    """Imports `source` into `folder`; does nothing if that is already done.

    Raises DataError, naming split and video, for data that are malformed, duplicate, missing, refused or not finite.
    """
    source, folder = Path(source), Path(folder)
    if (folder / MANIFEST).exists():
        return _again(source, folder)
    videos, first, frames = survey(source)
    stat = source.stat()
    layout = digest([[v.split, v.name, *v.reach, v.array.dtype, v.row] for v in videos])
    identity = dict(size=stat.st_size, mtime_ns=stat.st_mtime_ns, layout=layout)
    counts = {split: sum(v.split == split for v in videos) for split in first}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done = _allocate(folder, counts, identity)
        sha256 = _copy(source, folder, videos, done, identity, progress)
        parts = {split: _part(folder, split, counts[split], first[split]) for split in counts}
        write_manifest(folder, parts, dict(name=source.name, size=stat.st_size, sha256=sha256), frames)
    except OSError as error:
        what = error.filename or folder
        raise DataError(f"the import stopped: {what}: {error.strerror or error}; the same command continues it") from None
    (folder / UNFINISHED).unlink(missing_ok=True)
    return ImportedSlots.open(folder)


def survey(source: Path) -> tuple[list[Video], dict[str, int], int]:
    """(videos in the order of their bytes, first scene of each split, frames per video), from names and shapes only.

    Raises DataError for malformed, duplicate or missing videos."""
    tree = pickle_reader.read(source)
    if not isinstance(tree, dict) or not tree:
        raise DataError(f"{source} must hold a dict of splits, not {_kind(tree)}")
    videos: list[Video] = []
    first: dict[str, int] = {}
    for key in sorted(tree, key=str):
        if key not in _SPLIT:
            raise DataError(f"{source}: {shown(key)} is no split; the splits are train, val and test")
        if _SPLIT[key] in first:
            raise DataError(f"{source}: split {_SPLIT[key]} occurs twice, as val and as validation")
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
    """(first scene of a split, its videos with their rows)."""
    where = f"{source}, split {split}"
    if not isinstance(entries, dict) or not entries:
        raise DataError(f"{where}: must hold a dict of videos, not {_kind(entries)}")
    named: dict[int, Video] = {}
    for name, array in entries.items():
        match = _NAME.fullmatch(str(name))
        if match is None or int(match[1]) >= MOST_SCENES:
            raise DataError(f"{where}: {shown(name)} is no video's name; expected 123_pixels.mp4 or video_00123.mp4")
        scene = int(match[1])
        if scene in named:
            raise DataError(f"{where}: video {scene} occurs twice, as {named[scene].name} and as {name}")
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
    """The finished import in `folder`. Raises DataError if it was made from another file."""
    imported = ImportedSlots.open(folder)
    known = imported.source
    if source.exists() and (source.stat().st_size != known["size"] or sha256_of(source) != known["sha256"]):
        raise DataError(f"{folder} holds the import of another file ({known['name']}); name another folder with --to")
    return imported


def _file(folder: Path, split: str) -> Path:
    return folder / f"slots_{split}.npy"


ROW = GIVEN * SLOTS * WIDTH * 4
"""Bytes of one video."""


def _header(videos: int) -> bytes:
    """The header of the npy file of `videos` videos."""
    out = io.BytesIO()
    described = dict(descr="<f4", fortran_order=False, shape=(videos, GIVEN, SLOTS, WIDTH))
    np.lib.format.write_array_header_1_0(out, described)
    return out.getvalue()


def _allocate(folder: Path, counts: dict[str, int], identity: dict[str, Any]) -> int:
    """Creates the files at full size; returns the number of videos already written by an interrupted import."""
    sizes = {split: len(_header(videos)) + videos * ROW for split, videos in counts.items()}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        note = json.loads((folder / UNFINISHED).read_text(encoding="utf-8"))
        if note["mark"] == identity and all(_file(folder, s).stat().st_size == size for s, size in sizes.items()):
            return int(note["done"])
    for split, videos in counts.items():
        with open(_file(folder, split), "wb") as file:
            file.write(_header(videos))
            file.flush()
            os.posix_fallocate(file.fileno(), 0, sizes[split])  # a full disk is detected now, not in an hour
    write_json(folder / UNFINISHED, dict(mark=identity, done=0))
    return 0


def _copy(source: Path, folder: Path, videos: list[Video], done: int, identity: dict[str, Any], progress: Progress) -> str:
    """Writes the rows of videos[done:] (not mapped: mapped pages count as memory); returns the source's sha256."""
    counts = Counter(v.split for v in videos)
    total, last = identity["size"], time.monotonic()
    hashed = hashlib.sha256()
    position = 0

    def read_to(file: BinaryIO, end: int) -> Iterator[None]:
        nonlocal position
        file.seek(position)
        while position < end:
            block = file.read(min(BLOCK, end - position))
            if not block:
                raise DataError(f"{source} ends at byte {position}: it is being changed")
            hashed.update(block)
            position += len(block)
            yield

    with contextlib.ExitStack() as stack:
        out = {s: stack.enter_context(open(_file(folder, s), "r+b", buffering=0)) for s in sorted(counts)}
        starts = {split: len(_header(count)) for split, count in counts.items()}

        def save_progress(number: int) -> None:
            for written in out.values():
                os.fsync(written.fileno())
            write_json(folder / UNFINISHED, dict(mark=identity, done=number))

        file = stack.enter_context(open(source, "rb"))
        for number, video in enumerate(videos):
            for _ in read_to(file, video.reach[1]):
                pass
            if number >= done:
                frames = np.ascontiguousarray(_frames(source, file, video), "<f4")
                _write(out[video.split], frames.data.cast("B"), starts[video.split] + video.row * ROW)
            progress(position, total)
            if stopping() or (number >= done and time.monotonic() - last > EVERY):
                save_progress(max(number + 1, done))
                last = time.monotonic()
                if stopping():
                    raise Interrupted(f"the import stopped at video {number + 1}; the same command continues it")
        for _ in read_to(file, total):
            progress(position, total)
        save_progress(len(videos))
    now = source.stat()
    if (now.st_size, now.st_mtime_ns) != (identity["size"], identity["mtime_ns"]):
        raise DataError(f"{source} was changed while it was imported; run the same command again")
    return hashed.hexdigest()


def _write(file: FileIO, data: memoryview, place: int) -> None:
    """Writes all of `data` at `place`; one system call may write less."""
    while data:
        written = os.pwrite(file.fileno(), data, place)
        data, place = data[written:], place + written


def _frames(source: Path, file: BinaryIO, video: Video) -> np.ndarray:
    try:
        frames = video.array.read(file)[:GIVEN]
    except (DataError, UnicodeError) as error:
        raise DataError(f"{source}, split {video.split}, video {video.name}: {error}") from None
    if not np.isfinite(frames).all():
        bad = np.argwhere(~np.isfinite(frames))[0]
        raise DataError(
            f"{source}, split {video.split}, video {video.name}: frame {bad[0]}, slot {bad[1]} is not finite (NaN or infinite)"
        )
    return frames


def _part(folder: Path, split: str, videos: int, first: int) -> Part:
    path = _file(folder, split)
    stat = path.stat()
    return Part(path.name, videos, first, stat.st_size, stat.st_mtime_ns, sha256_of(path))
