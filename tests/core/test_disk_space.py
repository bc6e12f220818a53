"""A full disk: recognised from whatever raises it, reported with path and need; blocks are there before a file is mapped."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ctt.core import disk_space
from ctt.core.atomic_files import explained
from ctt.core.errors import DiskFull, StoreError
from ctt.data.mapped_arrays import mapped_array
from tests.small_disk import small_disk


def on_small_disk(folder: Path, code: str) -> str:
    """What Python code prints that runs where `folder` is a disk of 1 MiB; it is `folder` there."""
    command = small_disk(folder, "1m", inodes=40)
    code = f"from pathlib import Path\nfolder = Path({str(folder)!r})\n{code}"
    done = subprocess.run([*command, sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_mapped_array_that_does_not_fit_is_refused_before_it_is_written(tmp_path: Path) -> None:
    """Without its blocks the assignment would end the process by SIGBUS."""
    printed = on_small_disk(
        tmp_path / "small",
        """
from ctt.core.errors import DiskFull
from ctt.data.mapped_arrays import mapped_array
from tests.small_disk import small_disk
try:
    mapped_array(folder / "a.npy", "float32", (1000, 1000))[:] = 1
except DiskFull as error:
    print(error)
print(list(folder.iterdir()))
array = mapped_array(folder / "b.npy", "float16", (100, 1000))
array[:] = 1
print(array.sum(dtype=float))
""",
    ).splitlines()
    assert "a.npy" in printed[0] and "4.0 MB needed" in printed[0] and "1.0 MB free" in printed[0] and "ctt gc" in printed[0]
    assert printed[1:] == ["[]", "100000.0"]


def test_libraries_that_name_no_errno_are_recognised(tmp_path: Path) -> None:
    """safetensors, numpy's tofile, pyarrow and SQLite on a disk that is really full."""
    printed = on_small_disk(
        tmp_path / "small",
        """
import sqlite3
import numpy as np, pandas as pd, torch
from safetensors.torch import save_file
from ctt.core.disk_space import is_full
def sql():
    connection = sqlite3.connect(folder / "d.db")
    connection.execute("create table t (b blob)")
    connection.execute("insert into t values (zeroblob(3000000))")
    connection.commit()
for name, write in {
    "safetensors": lambda: save_file({"a": torch.zeros(10**6)}, folder / "a"),
    "tofile": lambda: np.save(folder / "b.npy", np.zeros(10**6)),
    "parquet": lambda: pd.DataFrame({"a": np.random.default_rng(0).random(10**6)}).to_parquet(folder / "c"),
    "sqlite": sql,
    "inodes": lambda: [(folder / f"{i}").touch() for i in range(50)],
}.items():
    try:
        write()
        print(name, "wrote")
    except Exception as error:
        print(name, is_full(error), "" if is_full(error) else repr(error))
    for path in folder.iterdir():
        path.unlink()
""",
    )
    assert printed.splitlines() == [f"{name} True " for name in ("safetensors", "tofile", "parquet", "sqlite", "inodes")]


@pytest.mark.parametrize(
    "error, found",
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (sqlite3.OperationalError("database or disk is full"), True),
        (OSError("1000000 requested and 130816 written"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (ValueError("the disk of the record player is round"), False),
    ],
)
def test_what_is_a_full_disk(error: Exception, found: bool) -> None:
    assert disk_space.is_full(error) is found
    try:
        raise RuntimeError("saving failed") from error
    except RuntimeError as wrapped:
        assert disk_space.is_full(wrapped) is found


def test_an_error_names_path_need_and_remedy(tmp_path: Path) -> None:
    for code, words in ((errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "your quota is used up")):
        with pytest.raises(DiskFull) as raised, explained("write x", tmp_path):
            raise OSError(code, os.strerror(code), str(tmp_path / "x"))
        assert isinstance(raised.value, StoreError)
        assert words in str(raised.value) and str(tmp_path / "x") in str(raised.value) and "CTT_STORE" in str(raised.value)
    assert "about 5.0 GB needed" in str(disk_space.full(OSError(errno.ENOSPC, ""), tmp_path, need=5e9))


def test_a_failed_allocation_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DiskFull, match=r"a\.npy.*400\.1 kB needed"):
        mapped_array(tmp_path / "a.npy", "float32", (100, 1000))
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_allocate_is_written_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    array = mapped_array(tmp_path / "a.npy", "float32", (3,))
    array[:] = 2
    array.flush()
    assert np.load(tmp_path / "a.npy").tolist() == [2, 2, 2]


def test_free_space_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert disk_space.free(tmp_path / "not" / "yet") == pytest.approx(shutil.disk_usage(tmp_path).free, abs=1e9)
    assert disk_space.too_small(1.0, tmp_path / "not" / "yet") is None
    assert "1000.0 TB" in str(disk_space.too_small(1e18 / 1e3, tmp_path))
