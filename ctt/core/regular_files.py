"""Regular files: what is a pipe, a device, a folder, or larger than its content can be, is refused before it is read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ctt.core.errors import DataError
from ctt.core.units import size

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def check_regular(path: Path, most: int | None = None) -> os.stat_result:
    """The file's state. Raises DataError, naming it, if it is missing, no regular file, or has more than `most` bytes."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None
    except ValueError as error:  # a null character in the name
        raise DataError(f"{str(path)!r} is no file ({error})") from None
    for of_kind, name in _KINDS:
        if of_kind(found.st_mode):
            raise DataError(f"{path} is {name}, not a file")
    if most is not None and found.st_size > most:
        raise DataError(f"{path} has {size(found.st_size)}, more than the {size(most)} that such a file can have")
    return found


def read_regular(path: Path, most: int) -> bytes:
    """The bytes of a regular file of at most `most` bytes. Raises DataError as `check_regular` does, or if it grows meanwhile."""
    check_regular(path, most)
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None
    if len(data) > most:
        raise DataError(f"{path} has more than the {size(most)} that such a file can have")
    return data
