"""Disk space: whether an error is that of a full disk, what is reported then, and blocks that are there before they are needed."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

from ctt.core.errors import DiskFull
from ctt.core.units import size

FULL = (errno.ENOSPC, errno.EDQUOT)
TEXT = re.compile(
    r"No space left on device|Disk quota exceeded|(database or )?disk is full|os error (28|122)\b|\d+ requested and \d+ written"
)
"""How libraries that do not raise an OSError with its number name it: safetensors, torch, SQLite, numpy's tofile."""
REMEDY = "free space (`ctt gc`) or choose another store with CTT_STORE, then run again"


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that the disk, its inodes or a quota are used up."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, DiskFull) or (isinstance(error, OSError) and error.errno in FULL) or TEXT.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def full(error: BaseException, path: Path, doing: str = "", need: float | None = None) -> DiskFull:
    """The DiskFull for such an error: what is full, at which path, what is free there and what is needed (bytes), the remedy."""
    if isinstance(error, DiskFull):
        return error
    named = getattr(error, "filename", None)
    path = Path(named) if isinstance(named, (str, Path)) and str(named) else path
    used_up = "the disk is full"
    if getattr(error, "errno", None) == errno.EDQUOT or "quota" in str(error):
        used_up = "your quota is used up"
    elif free_inodes(path) == 0:
        used_up = "the disk has no free inode"
    known = [f"{size(free(path))} free"] + ([f"about {size(need)} needed"] if need else [])
    return DiskFull(f"{doing}{used_up} at {path} ({', '.join(known)}); {REMEDY}")


def check_space(path: Path, need: float, what: str) -> None:
    """Raises DiskFull if the disk of `path` has no space for `need` bytes, those of `what`."""
    if (there := free(path)) < need:
        raise DiskFull(f"no space for {what} at {path} ({size(there)} free, about {size(need)} needed); {REMEDY}")


def too_small(need: float, path: Path) -> str | None:
    """What to report where the disk of `path` has no space for `need` bytes, or no inode; None if it has."""
    if free_inodes(path) == 0:
        return f"the disk of {path} has no free inode; {REMEDY}"
    if (there := free(path)) < need:
        return f"the disk of {path} has {size(there)} free, and this needs about {size(need)}; {REMEDY}"
    return None


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def free(path: Path) -> int:
    """Bytes that this user can still write to the disk of `path`, by what the file system reports: it may not know of a quota."""
    return shutil.disk_usage(existing(path.absolute())).free


def free_inodes(path: Path) -> int | None:
    """Files that this user can still make on the disk of `path`; None if the file system has no fixed number."""
    found = os.statvfs(existing(path.absolute()))
    return found.f_favail if found.f_files else None


def allocate(path: Path) -> None:
    """Gives every byte of a file a block on the disk, so that writing to it cannot fail for lack of space: in a mapped file that
    would be a SIGBUS. Raises DiskFull, naming the path and what it needs; the file is removed then."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    length = os.stat(path).st_size
    fd = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(fd, 0, length)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # the file system cannot
            return
        os.unlink(path)
        if is_full(error):
            raise full(error, path, need=length) from error
        raise
    finally:
        os.close(fd)
