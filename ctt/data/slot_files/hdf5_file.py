"""Arrays of an HDF5 file, through the library h5py, which is an extra of the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ctt.core.errors import DataError
from ctt.core.plain_text import plain
from ctt.data.slot_files.slot_array import SlotArray, Tree

DEEPEST = 6
MOST_ENTRIES = 200_000


def read_hdf5(path: Path) -> Tree:
    """The tree of groups and data sets. Raises DataError if h5py is not installed, the file is damaged or refers to others."""
    try:
        import h5py
    except ImportError:
        raise DataError(f"{path} is HDF5: install h5py to read it (pip install 'ctt-jepa[formats]')") from None
    try:
        file = h5py.File(path, "r")
        return _tree(file, path, h5py, [0], 0)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path} is an HDF5 file that is cut off or damaged ({plain(str(error), 150)})") from None


def _tree(group: Any, path: Path, h5py: Any, counted: list[int], depth: int) -> Tree:
    found = {}
    for name in group:
        counted[0] += 1
        if depth > DEEPEST or counted[0] > MOST_ENTRIES:
            raise DataError(f"{path}: more than {MOST_ENTRIES:,} entries, or nested more than {DEEPEST} deep")
        where = f"{path}, {plain(name, 100)}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise DataError(f"{where}: a link to another place or file is not followed")
        entry = group[name]
        if isinstance(entry, h5py.Group):
            found[str(name)] = _tree(entry, path, h5py, counted, depth + 1)
        elif isinstance(entry, h5py.Dataset):
            if entry.is_virtual or entry.external:
                raise DataError(f"{where}: its numbers are in another file, which is not read")
            found[str(name)] = _array(entry, (), where)
    return found


def _array(entry: Any, index: tuple[int, ...], where: str) -> SlotArray:
    """The part of a data set at `index` of its first axes."""

    def read() -> np.ndarray:
        try:
            return np.asarray(entry[index] if index else entry[()])
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            raise DataError(f"{where}: cannot be read ({plain(str(error), 150)})") from None

    shape = tuple(map(int, entry.shape or ()))[len(index) :]
    return SlotArray(entry.dtype.str, shape, read, lambda row: _array(entry, (*index, row), where))
