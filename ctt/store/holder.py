"""Holder: who has the lease of a key, read from its files (see ctt.store.leases for the protocol)."""

from __future__ import annotations

import json
import os
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctt.core.errors import StoreError
from ctt.store import heartbeat as heartbeat_process

CLAIM = "claim."


@dataclass(frozen=True)
class Holder:
    """The lease that counts for a key. `state` is held, released, dead (its process is gone) or expired.

    age: seconds since its last heartbeat by the file server's clock; time: that heartbeat, ns. fence and doubt: see
    ctt.store.leases.
    """

    number: int
    state: str
    owner: str
    token: str
    host: str
    pid: int
    age: float
    expiry: float
    fence: int
    doubt: int
    time: int

    def __str__(self) -> str:
        return f"{self.owner} (process {self.pid} on {self.host}, last heartbeat {self.age:.0f} s ago)"


def kernel() -> str:
    """Names the running kernel and process namespace; process numbers mean the same wherever this is equal."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _dead(record: dict[str, Any]) -> bool:
    """True only if by this kernel the owner's process is gone (a zombie, or another process of its id)."""
    if not record.get("kernel") or record["kernel"] != kernel():
        return False
    try:
        pid = int(record["pid"])
        state = heartbeat_process.process_state(pid)
        if state is None and pid > 0:
            os.kill(pid, 0)  # sends nothing; /proc may hide other users' processes, which are not dead
    except ProcessLookupError:
        return True
    except (NotImplementedError, OSError, KeyError, ValueError):
        return False
    return state is not None and (state[0] in "ZX" or state[1] != record.get("started"))


def numbers(folder: Path) -> list[int]:
    """The lease numbers in a key's folder, ascending; empty if there is no folder."""
    try:
        return sorted(int(name) for name in os.listdir(folder) if name.isdigit())
    except FileNotFoundError:
        return []


def path_of(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}"


def now(fd: int) -> int:
    """The file server's clock, ns: the time it gives to a file we touch."""
    os.utime(fd)
    return os.fstat(fd).st_mtime_ns


def holder(folder: Path, clock: int | None = None, expiry: float = 60.0) -> Holder | None:
    """The lease that counts in a key's folder, or None. `clock` (ns): the file server's; None: asked by a file of
    our own, or, where we may not write, approximated by this machine's. `expiry` counts where the lease names none."""
    for _ in range(100):
        found = numbers(folder)
        if not found:
            return None
        with suppress(FileNotFoundError):  # a lower number may be tidied away between the two
            return _judge(folder, found[-1], _clock(folder) if clock is None else clock, expiry)
    raise StoreError(f"the leases of {folder} keep changing. Run again; if it stays, look at that path.")


def _clock(folder: Path) -> int:
    path = folder / f"{CLAIM}{uuid.uuid4().hex}"
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    except OSError:
        return time.time_ns()
    try:
        return now(fd)
    finally:
        os.close(fd)
        with suppress(OSError):
            os.unlink(path)


def _judge(folder: Path, number: int, clock: int, expiry: float) -> Holder:
    fd = os.open(path_of(folder, number), os.O_RDONLY)  # opening asks the file server: its answer is not a cached one
    try:
        touched, text = os.fstat(fd).st_mtime_ns, os.read(fd, 1 << 16)
    finally:
        os.close(fd)
    try:
        record = json.loads(text)
        expiry, fence, doubt = float(record["expiry"]), int(record["fence"]), int(record["doubt"])
        pid = int(record["pid"])
    except (ValueError, KeyError, TypeError):
        record, fence, doubt, pid = {}, number, number, 0  # an unreadable lease: only its age counts
    age = (clock - touched) / 1e9
    state = "held"
    if touched == 0:
        state = "released"
    elif _dead(record):
        state = "dead"
    elif age > expiry:
        state = "expired"
    names = {name: str(record.get(name, "unknown")) for name in ("owner", "token", "host")}
    return Holder(
        number,
        state,
        **names,
        pid=pid,
        age=age,
        expiry=expiry,
        fence=fence,
        doubt=doubt,
        time=touched,
    )
