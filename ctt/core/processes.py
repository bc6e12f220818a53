"""Processes of this host, identified by id and start time, so that a reused id is never mistaken for the old process."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterator

import psutil


def this_host() -> str:
    return platform.node() or "localhost"


def started(pid: int) -> int | None:
    """Start time of a process in clock ticks since the host booted, so setting the clock does not change it.

    None if no process has that id, or only a zombie."""
    with contextlib.suppress(psutil.Error):
        booted = psutil.boot_time()
        process = psutil.Process(pid)
        began: float = process.create_time() - booted
        if process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return round(began * os.sysconf("SC_CLK_TCK"))
    return None


def send(pid: int, began: int | None, number: int) -> None:
    """Sends signal `number` to the process `pid` that started at `began`, if it still exists."""
    if began is not None and started(pid) == began:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def without_main_module() -> Iterator[None]:
    """Processes that multiprocessing spawns in this context do not import the caller's script: one without a guard
    (`if __name__ == "__main__"`) would do everything once more in each of them."""
    main = vars(sys.modules["__main__"])
    hidden: dict[str, object] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.pop("__spec__")
        main.update(hidden)
