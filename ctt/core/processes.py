"""Processes of this host, known by their id and start time, so that another one of the same id is never taken for one of them."""

from __future__ import annotations

import contextlib
import os
import platform

import psutil


def this_host() -> str:
    return platform.node() or "localhost"


def started(pid: int) -> int | None:
    """When a process started, in clock ticks since the host did, which no setting of the clock changes; None if there is
    none of that id, or only a zombie."""
    with contextlib.suppress(psutil.Error):
        booted = psutil.boot_time()
        process = psutil.Process(pid)
        began = process.create_time() - booted
        if process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return round(began * os.sysconf("SC_CLK_TCK"))
    return None


def send(pid: int, began: int | None, number: int) -> None:
    """Sends a signal to the process that started at `began`, if it is still there."""
    if began is not None and started(pid) == began:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
