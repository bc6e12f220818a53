"""Arrays of npy files, and of npz files that are not compressed, by their place in the file."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ctt.core.errors import DataError
from ctt.core.plain_text import plain
from ctt.data.slot_files.slot_array import SlotArray, in_file
from ctt.safeload.rebuild import Array, Span

LONGEST_HEADER = 10_000
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npy(path: Path, before: int = 0, streamed: bool = True) -> SlotArray:
    """The array of an npy file."""
    with open(path, "rb") as file:
        return in_file(path, _described(file, path.stat().st_size, str(path)), before, streamed)


def compressed(path: Path) -> bool:
    """Whether a member of an npz file is compressed."""
    with zipfile.ZipFile(path) as archive:
        return any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())


def read_npz(path: Path, before: int = 0, streamed: bool = True) -> dict[str, SlotArray]:
    """The arrays of an npz file without compression, by name."""
    found: dict[str, SlotArray] = {}
    try:
        with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
            for member in archive.infolist():
                with archive.open(member) as opened:  # finds the place, and reads nothing ahead of the header
                    opened.read(0)
                file.seek(member.header_offset + 26)
                name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
                file.seek(member.header_offset + 30 + name + extra)
                end = member.header_offset + 30 + name + extra + member.file_size
                found[member.filename.removesuffix(".npy")] = in_file(
                    path, _described(file, end, f"{path}, {plain(member.filename, 100)}"), before, streamed
                )
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path} is an npz file that is cut off or damaged ({plain(str(error), 100)})") from None
    return found


def _described(file: BinaryIO, end: int, where: str) -> Array:
    """The array whose npy header begins at the file's position, its numbers ending before `end`."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"version {version} of the format is not read")
        shape, fortran, dtype = _HEADERS[version](file, max_header_size=LONGEST_HEADER)
    except (ValueError, EOFError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise DataError(f"{where} is no npy file ({plain(str(error), 100)})") from None
    if dtype.hasobject or dtype.fields or dtype.subdtype:
        raise DataError(f"{where}: an array of numbers is needed, not of {plain(str(dtype), 100)}")
    start = file.seek(0, os.SEEK_CUR)
    array = Array(dtype.str, tuple(map(int, shape)), Span(start, max(end - start, 0)), 0, "F" if fortran else "C")
    if array.size > end - start or any(number < 0 for number in array.shape):
        raise DataError(f"{where} is cut off: an array of shape {array.shape} has {array.size} bytes, {end - start} follow")
    return array
