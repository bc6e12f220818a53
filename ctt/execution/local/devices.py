"""Devices: the GPUs or CPU cores of this host, leased to jobs by kernel locks.

Each device is a file in one folder that all sweeps of the host share; the holder of the file's lock has the device. The
launcher takes the lock and hands its descriptor to the job, so the job and its children hold it: when they end, in
whatever way, the kernel releases it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ctt.core.compute_device import visible_gpus
from ctt.core.errors import StoreError


class DeviceLease:
    """Locked devices. Pass `files` to the job (pass_fds), then `close` them here."""

    def __init__(self, names: Sequence[str], files: Sequence[int]) -> None:
        self.names, self.files = tuple(names), tuple(files)

    def close(self) -> None:
        for file in self.files:
            os.close(file)


def take(folder: Path, kind: str, names: Sequence[str], count: int, locks: Sequence[str] | None = None) -> DeviceLease | None:
    """Locks the first `count` free devices of `names`; None, and no lock, if fewer are free.

    The files are KIND-NAME, or KIND-LOCK of `locks` where a device has several names.
    """
    held: list[tuple[str, int]] = []
    for name, lock in zip(names, locks or names, strict=True):
        if len(held) == count:
            break
        file = _open(folder, f"{kind}-{lock}")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held.append((name, file))
        except BlockingIOError:
            os.close(file)
    if len(held) < count:
        for _, file in held:
            os.close(file)
        return None
    return DeviceLease([name for name, _ in held], [file for _, file in held])


def _open(folder: Path, name: str) -> int:
    """Opens or creates a lock file for all users; follows no link. Raises StoreError."""
    path = folder / name.replace("/", "_")
    try:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                folder.chmod(0o1777)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with contextlib.suppress(OSError):
            os.fchmod(file, 0o666)
        return file
    except OSError as error:
        raise StoreError(f"{path} cannot be locked ({error}); choose another folder with launch.leases") from error


def locks_of(names: Sequence[str]) -> list[str]:
    """The UUIDs of GPUs that are given by number, by UUID or by the start of one; other names stay as they are."""
    numbers = _driver()
    uuids = list(numbers.values())
    return [numbers.get(name) or next((uuid for uuid in uuids if uuid.startswith(name)), name) for name in names]


def gpus(chosen: Sequence[str] | None) -> list[str]:
    """Names of the GPUs that jobs may use: `chosen`, else CUDA_VISIBLE_DEVICES, else all; numbers are nvidia-smi's."""
    if chosen is not None:
        return [str(name) for name in chosen]
    visible = visible_gpus()
    return list(_driver()) if visible is None else visible


def _driver() -> dict[str, str]:
    """Number → UUID of the host's GPUs, from nvidia-smi, which creates no CUDA context in this process."""
    if shutil.which("nvidia-smi") is None:
        return {}
    query = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(line.replace(",", " ").split()[:2] for line in done.stdout.splitlines() if "," in line)


def cores() -> int:
    """CPU cores this process may use: its affinity, or the quota of its control group if that is less."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    return count


def memory_gb() -> float:
    """GiB that new jobs may use: the host's available memory, or its control group's limit; infinite if unknown."""
    found = [float("inf")]
    with contextlib.suppress(OSError, ValueError, KeyError):
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) / 2**20)
    with contextlib.suppress(OSError, ValueError):
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")) / 2**30)
    return min(found)
