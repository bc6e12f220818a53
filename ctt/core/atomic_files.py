"""Atomic file operations: a reader finds the old file or the new one, never a part, even after a power failure.

Errors of a store's file operations become a StoreError that names the path, the reason and the remedy."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import Any

from ctt.core import disk_space
from ctt.core.errors import StoreError

_REMEDIES = {
    errno.EROFS: "The file system is read-only: choose a store that can be written with CTT_STORE",
    errno.EACCES: "No permission to write there: fix the permissions or choose another store with CTT_STORE",
    errno.EPERM: "The file system refuses this (the store needs hard links and renames): choose another store with CTT_STORE",
    errno.ENOTDIR: "A file is where a folder is needed: move it away or choose another store with CTT_STORE",
    errno.EXDEV: "It is on another file system than the store: build in the store's work folder",
    errno.EIO: "The disk or file server failed: check it, then run again",
    errno.ESTALE: "The file server lost the file: check the mount, then run again",
}


@contextmanager
def explained(doing: str, path: Path) -> Iterator[None]:
    """Turns an OSError raised in the block into a StoreError that names the path, the reason and the remedy."""
    try:
        yield
    except OSError as error:
        where = error.filename if isinstance(error.filename, (str, Path)) else path
        if disk_space.is_full(error):
            raise disk_space.full(error, Path(where), f"cannot {doing}: ") from error
        remedy = _REMEDIES.get(error.errno or 0, "Run again; if the error persists, check that path")
        raise StoreError(f"cannot {doing}: {where}: {error.strerror or error}. {remedy}.") from error


def sync(path: Path) -> None:
    """Forces a file's bytes, or a folder's names, to the disk. Ignores file systems that cannot sync a folder."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(fd)


def make_folder(path: Path) -> None:
    """Creates `path` and its missing parents; each name is on disk before the next is created."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with suppress(FileExistsError):
        os.mkdir(path)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    sync(path.parent)


LARGEST_JSON = 256 << 20
"""Maximum bytes of a JSON file of the store."""
LEFTOVERS = ".*.tmp"
"""Glob pattern of the temporary files that a killed process may leave behind."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to; it replaces `path` if the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def write(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replaces the content of `path` by `data`; readers see the old bytes or the new, never a part.

    durable: this holds after a power failure too, and the new bytes are on the disk on return."""
    with replacing(path) as temporary, open(temporary, "xb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    if durable:
        sync(path.parent)


def write_json(
    path: Path, value: Any, *, durable: bool = True, indent: int | None = 1, sort_keys: bool = True, end: str = "\n"
) -> None:
    """`write` of JSON text. Raises ValueError for numbers that JSON does not have."""
    text = json.dumps(value, indent=indent, sort_keys=sort_keys, allow_nan=False)
    write(path, (text + end).encode(), durable=durable)


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if the file is missing, no regular file, larger than such files are or not valid JSON."""
    try:
        stat = os.stat(path)
        if not S_ISREG(stat.st_mode) or stat.st_size > LARGEST_JSON:
            return None
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value


def sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def move_if_absent(source: Path, target: Path) -> bool:
    """Renames the folder `source` to `target`; returns False if a non-empty folder `target` exists.

    `source` must not be empty: a rename onto a non-empty folder fails on every file system, so only the first of several
    processes succeeds. Raises FileNotFoundError if `source` is gone.
    """
    identity = os.stat(source).st_ino
    try:
        os.rename(source, target)
    except OSError as error:
        # If its answer was lost, a file server repeats the request and reports a failure for a rename that succeeded.
        with suppress(OSError):
            if os.stat(target).st_ino == identity:
                return True
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def remove_tree(path: Path) -> None:
    """Deletes a folder as far as possible; nothing depends on files that remain."""
    shutil.rmtree(path, ignore_errors=True)
