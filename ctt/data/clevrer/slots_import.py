"""Importing slots: from the forms in which people have them to a folder of memory-mapped files, in bounded memory.

The source is read twice. First its structure only: that gives the position of every video and reveals every error in
names, shapes and types before a byte is written (`ctt.data.clevrer.slots_survey`). Then its bytes, in order: each video is
written to its row, while a thread computes the checksum of the source and another one waits for the disk. An interrupted
import continues: videos on disk are not written again; the source is read again for its checksum.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from ctt.core.atomic_files import LEFTOVERS, remove_tree, write_json
from ctt.core.build_context import stopping
from ctt.core.errors import DataError, Interrupted
from ctt.core.regular_files import check_regular
from ctt.core.settings import digest
from ctt.data.clevrer.imported_slots import MANIFEST, ImportedSlots, Part, sha256_of, write_manifest
from ctt.data.clevrer.slots_survey import Survey, Video, survey
from ctt.data.scene import GIVEN
from ctt.data.slot_files.opening import files_of

UNFINISHED = "unfinished.json"
SCRATCH = "unpacked"
"""The folder for what is unpacked, until the import is finished."""
EVERY = 5.0
"""Seconds between two saves of an import's progress."""
BLOCK = 1 << 22
AHEAD = 64
"""Videos that are written before the checksum has reached them: what both read is read from the disk once."""

Progress = Callable[[int, int], None]
"""Called with the bytes read so far and the total."""


def import_slots(source: Path, folder: Path, progress: Progress = lambda done, total: None, gaps: bool = False) -> ImportedSlots:
    """Imports the file or folder `source` into `folder`; does nothing if that is already done. `gaps`: videos may be missing.

    Raises DataError, naming split and video, for data that are malformed, duplicate, missing, refused or not finite.
    """
    source, folder = Path(source), Path(folder)
    if (folder / MANIFEST).exists():
        imported = _again(source, folder)
        _tidy(folder)
        return imported
    existed = folder.exists()
    try:
        found = survey(source, folder / SCRATCH, progress, gaps)
    except DataError:
        remove_tree(folder / SCRATCH)
        if not existed:
            remove_tree(folder)
        raise
    layout = digest([[v.split, v.name, *v.array.reach, v.array.dtype, v.row] for v in found.videos])
    identity = dict(size=found.size, mtime_ns=found.changed, layout=layout)
    counts = {split: len(scenes) for split, scenes in found.scenes.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done = _allocate(folder, counts, found.shape[1:], identity)
        sha256, parts = _copy(source, folder, found, done, identity, progress)
        described: dict[str, Any] = dict(name=source.name, size=found.size, sha256=sha256)
        if found.notes:
            described["notes"] = found.notes
        write_manifest(folder, parts, described, *found.shape)
    except OSError as error:
        what = error.filename or folder
        raise DataError(f"the import stopped: {what}: {error.strerror or error}; the same command continues it") from None
    _tidy(folder)
    return ImportedSlots.open(folder)


def _tidy(folder: Path) -> None:
    """Removes what only an unfinished import needs, also where one was killed just after it had finished."""
    for path in (folder / UNFINISHED, *folder.glob(LEFTOVERS)):
        path.unlink(missing_ok=True)
    remove_tree(folder / SCRATCH)


def _again(source: Path, folder: Path) -> ImportedSlots:
    """The finished import in `folder`. Raises DataError if it was made from another file."""
    imported = ImportedSlots.open(folder)
    known = imported.source
    if source.is_dir():
        hashed = _Hashed(files_of(source))
        for _ in hashed.read_to(known["size"]):
            pass
        same = hashed.at_end and hashed.sha256() == known["sha256"]
    else:
        same = not source.exists() or (check_regular(source).st_size == known["size"] and sha256_of(source) == known["sha256"])
    if not same:
        raise DataError(f"{folder} holds the import of another file ({known['name']}); name another folder with --to")
    return imported


def _file(folder: Path, split: str) -> Path:
    return folder / f"slots_{split}.npy"


def _header(videos: int, sizes: tuple[int, int]) -> bytes:
    """The header of the npy file of `videos` videos, `sizes` being their slots and width."""
    out = io.BytesIO()
    described = dict(descr="<f4", fortran_order=False, shape=(videos, GIVEN, *sizes))
    np.lib.format.write_array_header_1_0(out, described)
    return out.getvalue()


def _row_bytes(sizes: tuple[int, int]) -> int:
    """Bytes of one video."""
    return GIVEN * sizes[0] * sizes[1] * 4


def _allocate(folder: Path, counts: dict[str, int], shape: tuple[int, int], identity: dict[str, Any]) -> int:
    """Creates the files at full size; returns the number of videos already written by an interrupted import."""
    sizes = {split: len(_header(videos, shape)) + videos * _row_bytes(shape) for split, videos in counts.items()}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        note = json.loads((folder / UNFINISHED).read_text(encoding="utf-8"))
        if note["mark"] == identity and all(_file(folder, s).stat().st_size == size for s, size in sizes.items()):
            return int(note["done"])
    for split, videos in counts.items():
        with open(_file(folder, split), "wb") as file:
            file.write(_header(videos, shape))
            file.flush()
            os.posix_fallocate(file.fileno(), 0, sizes[split])  # a full disk is detected now, not in an hour
    write_json(folder / UNFINISHED, dict(mark=identity, done=0))
    return 0


class _Progress:
    """How many videos are written, on disk: saved now and then by a thread, which waits for the disk while more is written, and
    by whatever ends the `with` block."""

    def __init__(self, folder: Path, files: Sequence[FileIO], identity: dict[str, Any], done: int) -> None:
        self._folder, self._files, self._identity, self._done = folder, files, identity, done
        self._thread = ThreadPoolExecutor(1)
        self._saving: Future[None] | None = None
        self._last = time.monotonic()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.save()
            assert self._saving is not None
            self._saving.result()
        except OSError:
            if kind is None:
                raise
        finally:
            self._thread.shutdown()

    def written(self, done: int) -> None:
        """The first `done` videos are. Raises OSError if the last saving failed."""
        self._done = done
        if time.monotonic() - self._last > EVERY and (self._saving is None or self._saving.done()):
            self.save()

    def save(self) -> None:
        """Begins to save it, once what was begun before is over."""
        if self._saving is not None:
            self._saving.result()
        self._saving, self._last = self._thread.submit(self._save, self._done), time.monotonic()

    def _save(self, done: int) -> None:
        for file in self._files:
            os.fsync(file.fileno())
        write_json(self._folder / UNFINISHED, dict(mark=self._identity, done=done))


class _Hashed:
    """The bytes of several files, one after another, as they are hashed."""

    def __init__(self, files: list[Path]) -> None:
        self._files = [(path, path.stat().st_size) for path in files]
        self._hash = hashlib.sha256()
        self.position = self._before = 0

    def read_to(self, end: int) -> Iterator[int]:
        """Reads on to the byte `end` of all files; yields positions on the way."""
        while self.position < end and self._files:
            path, size = self._files[0]
            if self.position == self._before + size:
                self._before += size
                self._files.pop(0)
                continue
            with open(path, "rb") as file:
                file.seek(self.position - self._before)
                while self.position < min(end, self._before + size):
                    block = file.read(min(BLOCK, min(end, self._before + size) - self.position))
                    if not block:
                        raise DataError(f"{path} ends at byte {self.position - self._before}: it is being changed")
                    self._hash.update(block)
                    self.position += len(block)
                    yield self.position

    @property
    def at_end(self) -> bool:
        """Whether every byte was read."""
        return self.position == self._before + sum(size for _, size in self._files)

    def sha256(self) -> str:
        return self._hash.hexdigest()


def _copy(
    source: Path, folder: Path, found: Survey, done: int, identity: dict[str, Any], progress: Progress
) -> tuple[str, dict[str, Part]]:
    """Writes the rows of the videos from number `done` on (not mapped: mapped pages count as memory); returns the source's
    sha256, and the splits."""
    counts = Counter(v.split for v in found.videos)
    loose = sum(v.array.size for v in found.videos if v.array.reach == (0, 0))  # bytes that are not read while hashing
    total, read = identity["size"] + loose, 0
    hashed, sizes = _Hashed(found.files), found.shape[1:]
    with contextlib.ExitStack() as stack:
        out = {s: stack.enter_context(open(_file(folder, s), "r+b", buffering=0)) for s in sorted(counts)}
        starts = {split: len(_header(count, sizes)) for split, count in counts.items()}
        on_disk = stack.enter_context(_Progress(folder, list(out.values()), identity, done))
        behind = deque[Future[None]]()
        hashing = stack.enter_context(ThreadPoolExecutor(1))  # hashing leaves other threads the interpreter
        for number, video in enumerate(found.videos):
            behind.append(hashing.submit(_all, hashed.read_to(video.array.reach[1])))
            if number >= done:
                frames = np.ascontiguousarray(_frames(source, video), "<f4")
                _write(out[video.split], frames.data.cast("B"), starts[video.split] + video.row * _row_bytes(sizes))
                on_disk.written(number + 1)
            while len(behind) > AHEAD:
                behind.popleft().result()
            read += video.array.size if video.array.reach == (0, 0) else 0
            progress(hashed.position + read, total)
            if stopping():
                raise Interrupted(f"the import stopped at video {number + 1}; the same command continues it")
        for one in behind:
            one.result()
        for position in hashed.read_to(identity["size"]):
            progress(position + read, total)
            if stopping():
                raise Interrupted("the import stopped at its last video; the same command continues it")
        on_disk.save()  # while the splits are hashed
        with ThreadPoolExecutor(len(found.scenes)) as threads:
            made = threads.map(lambda one: (one[0], _part(folder, *one)), found.scenes.items())
        parts = dict(made)
    if (found.size, found.changed) != (identity["size"], identity["mtime_ns"]):
        raise DataError(f"{source} was changed while it was imported; run the same command again")
    return hashed.sha256(), parts


def _all(steps: Iterator[int]) -> None:
    for _ in steps:
        pass


def _write(file: FileIO, data: memoryview, place: int) -> None:
    """Writes all of `data` at `place`; one system call may write less."""
    while data:
        written = os.pwrite(file.fileno(), data, place)
        data, place = data[written:], place + written


def _frames(source: Path, video: Video) -> np.ndarray:
    """The given frames of a video, as float32."""
    where = f"{source}, split {video.split}, video {video.name}"
    try:
        with np.errstate(over="ignore"):
            frames = video.array.read()[:GIVEN].astype(np.float32, copy=False)
    except (DataError, UnicodeError) as error:
        raise DataError(f"{where}: {error}") from None
    with np.errstate(over="ignore", invalid="ignore"):
        surely = np.isfinite(frames.sum(dtype=np.float32))  # ten times as fast; large finite numbers may fail it
    if not surely and not np.isfinite(frames).all():
        bad = np.argwhere(~np.isfinite(frames))[0]
        raise DataError(f"{where}: frame {bad[0]}, slot {bad[1]} is not finite (NaN or infinite)")
    return frames


def _part(folder: Path, split: str, scenes: list[int]) -> Part:
    path = _file(folder, split)
    stat = path.stat()
    have = set(scenes)
    missing = tuple(scene for scene in range(scenes[0], scenes[-1] + 1) if scene not in have)
    return Part(path.name, len(scenes), scenes[0], stat.st_size, stat.st_mtime_ns, sha256_of(path), missing)
