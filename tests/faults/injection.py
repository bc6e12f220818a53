"""Faults inside a child process: errors of the file system at a chosen step, and a clock that jumps."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ctt.core.errors import CttError
from tests.faults.counting import FULL, RENAME, SYNC
from tests.faults.processes import fork, wait

ERRORS = {FULL: errno.ENOSPC, SYNC: errno.EIO, RENAME: errno.EIO}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
REPORTED = 3  # exit code of a child that ended with an error of ctt's own


def concerns(kind: str, event: str, arguments: tuple[object, ...], root: str) -> bool:
    """Whether a step of the interpreter is one that such a fault hits, below the folder `root`."""
    if event == "ctt.fsync":
        number = arguments[0]
        path = os.readlink(f"/proc/self/fd/{number}")
        return kind in (FULL, SYNC) and path.startswith(root)
    paths = [os.fspath(one) for one in arguments[:2] if isinstance(one, (str, os.PathLike))]
    if not any(str(path).startswith(root) for path in paths):
        return False
    if event == "os.rename":
        return kind == RENAME
    if kind == FULL:
        return event in ("os.mkdir", "os.link", "os.symlink") or (event == "open" and bool(int(str(arguments[2] or 0)) & WRITES))
    return False


def at(kind: str, root: Path, number: int, act: Callable[[], None]) -> list[int]:
    """Calls `act` before the number-th step of a kind from now on; returns a list that holds the number of steps so far."""
    count, fsync, inside = [0], os.fsync, [False]

    def audited(fd: int) -> None:
        sys.audit("ctt.fsync", fd)
        fsync(fd)

    os.fsync = audited

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if inside[0] or not event.startswith(("open", "os.", "ctt.")):
            return
        inside[0] = True
        try:
            if concerns(kind, event, arguments, str(root)):
                count[0] += 1
                if count[0] == number:
                    act()
        finally:
            inside[0] = False

    sys.addaudithook(hook)
    return count


def steps(kind: str, root: Path, act: Callable[[], object], report: Path) -> int:
    """How many steps of a kind an undisturbed `act` has, by a child process."""

    def counted() -> None:
        count = at(kind, root, 0, lambda: None)
        act()
        report.write_text(str(count[0]))

    assert wait(fork(counted), 120) == 0
    return int(report.read_text())


def failing(kind: str, root: Path, number: int, act: Callable[[], object]) -> int:
    """The exit code of a child in which step `number` of a kind fails: 0, or REPORTED if it ended with an error of ctt's."""

    def fail() -> None:
        raise OSError(ERRORS[kind], os.strerror(ERRORS[kind]))

    def disturbed() -> None:
        at(kind, root, number, fail)
        try:
            act()
        except CttError:
            os._exit(REPORTED)

    return wait(fork(disturbed), 120)


def jumping(seconds: float, root: Path, number: int, act: Callable[[], object]) -> int:
    """The exit code of a child whose clock jumps by so much at the number-th write."""
    real, real_ns = time.time, time.time_ns

    def jump() -> None:
        time.time = lambda: real() + seconds
        time.time_ns = lambda: real_ns() + int(seconds * 1e9)

    def disturbed() -> None:
        at(FULL, root, number, jump)
        act()

    return wait(fork(disturbed), 120)
