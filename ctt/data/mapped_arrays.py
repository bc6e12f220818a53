"""Arrays in files that are mapped into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from ctt.core import disk_space


def mapped_array(path: Path, dtype: str, shape: tuple[int, ...]) -> np.memmap:
    """A new .npy file of zeros, mapped for writing, all of whose blocks are on the disk. Raises DiskFull; no file is left then."""
    need = float(np.dtype(dtype).itemsize * np.prod(shape, dtype=np.float64))
    try:
        array = open_memmap(path, "w+", dtype=dtype, shape=shape)
    except OSError as error:
        path.unlink(missing_ok=True)
        if disk_space.is_full(error):
            raise disk_space.full(error, path, need=need) from error
        raise
    disk_space.allocate(path)
    return array
