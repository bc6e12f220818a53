"""Unpacking compressed files of slots onto the disk, bounded by what is free there."""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ctt.core.build_context import stopping
from ctt.core.errors import DataError, Interrupted
from ctt.core.plain_text import plain
from ctt.core.settings import digest
from ctt.core.units import size

Progress = Callable[[int, int], None]
BLOCK = 1 << 22
SPARE = 1 << 30
"""Bytes of the disk that stay free."""
_DAMAGE = (OSError, EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, ValueError, RuntimeError, NotImplementedError)


def unpacked(path: Path, kind: str, scratch: Path, progress: Progress) -> Path:
    """The file without its compression, in the folder `scratch`; what an earlier call has finished is not done again.

    Raises DataError if the file is damaged or its content leaves less than 1 GiB of the disk free, Interrupted at a signal."""
    target = scratch / f"{_identity(path)}.unpacked"
    if not target.exists():
        scratch.mkdir(parents=True, exist_ok=True)
        with open(path, "rb") as raw:
            _copy(path, lambda: _opened(raw, kind), lambda: raw.seek(0, os.SEEK_CUR), target, progress)
    return target


def unpacked_npz(path: Path, scratch: Path, progress: Progress) -> Path:
    """The folder of an npz file's members, in `scratch`. Raises as `unpacked` does."""
    folder = scratch / f"{_identity(path)}.members"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            for number, member in enumerate(members):
                parts = Path(member.filename).parts
                if any(part in ("..", "/", "") for part in parts) or Path(member.filename).is_absolute():
                    raise DataError(f"{path}: a member's name {plain(member.filename, 100)} is refused")
                target = folder.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    opened, done = functools.partial(archive.open, member), functools.partial(int, number)
                    _copy(path, opened, done, target, progress, len(members))
    except _DAMAGE as error:
        raise DataError(f"{path} is an npz file that is cut off or damaged ({plain(str(error), 100)})") from None
    return folder


def _identity(path: Path) -> str:
    found = path.stat()
    return f".{digest([str(path.resolve()), found.st_size, found.st_mtime_ns])[:16]}"


def _opened(raw: IO[bytes], kind: str) -> IO[bytes]:
    if kind == "gzip":
        return gzip.open(raw)  # type: ignore[return-value]
    if kind == "xz":
        return lzma.open(raw)
    if kind == "bzip2":
        return bz2.open(raw)
    try:
        import zstandard
    except ImportError:
        raise DataError("a zstandard file: install zstandard to read it (pip install 'ctt-jepa[formats]')") from None
    stream: Any = zstandard.ZstdDecompressor(max_window_size=1 << 31).stream_reader(raw, read_across_frames=True)
    return stream  # type: ignore[no-any-return]


def _copy(
    path: Path, opened: Callable[[], IO[bytes]], done: Callable[[], int], target: Path, progress: Progress, total: int = 0
) -> None:
    """Writes what `opened` gives into `target`, atomically."""
    with _writing(target) as out, _reading(path, opened) as read:
        while block := read():
            if shutil.disk_usage(target.parent).free < SPARE + len(block):
                more = f"{path}: its content has more than {size(out.seek(0, os.SEEK_CUR))}"
                raise DataError(f"{more}, for which the disk of {target.parent} has no space; choose another folder with --to")
            out.write(block)
            progress(done(), total or path.stat().st_size)
            if stopping():
                raise Interrupted(f"stopped while {path} was unpacked; the same command starts it again")


@contextmanager
def _reading(path: Path, opened: Callable[[], IO[bytes]]) -> Iterator[Callable[[], bytes]]:
    """Yields a function that gives the next block. It raises DataError where the compressed data is damaged."""

    def block() -> bytes:
        try:
            return stream.read(BLOCK)
        except Exception as error:  # each of the libraries has its own
            raise DataError(f"{path} is cut off or damaged: {plain(str(error), 150) or type(error).__name__}") from None

    try:
        stream = opened()
    except DataError as error:
        raise DataError(f"{path} is {error}") from None
    with stream:
        yield block


@contextmanager
def _writing(target: Path) -> Iterator[IO[bytes]]:
    part = target.with_name(f"{target.name}.part")
    try:
        with open(part, "wb") as out:
            yield out
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
