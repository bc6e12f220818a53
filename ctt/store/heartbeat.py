"""Keeps a lease's heart beating from a process of its own, which no long call in the owner can hold up.

Started by `ctt.store.leases` as `python -I -S heartbeat.py FD OWNER_PID SECONDS` with its standard input a pipe from its
owner. Every so many seconds it touches the lease file, unless the owner is stopped (SIGSTOP): a stopped owner must
lose its lease. It ends when the pipe closes or the owner is gone. Imports little, so that it starts in milliseconds.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress

# What a terminal or scheduler sends to all processes of a job; the owner may go on for a while, and so must its heartbeat.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def process_state(pid: int) -> tuple[str, int] | None:
    """One letter for the state (R, S, D, T, Z, …) and the start time in clock ticks, from the kernel.

    None if there is no such process; raises NotImplementedError where there is no /proc.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        if not os.path.exists("/proc/self/stat"):
            raise NotImplementedError("no /proc") from None
        return None
    return fields[0].decode(), int(fields[19])


def stopped(pid: int) -> bool:
    """True if the process was stopped by a signal."""
    try:
        state = process_state(pid)
    except (NotImplementedError, OSError):
        return False
    return state is not None and state[0] == "T"


def beat(fd: int, owner: int, seconds: float) -> None:
    """Touches the file behind `fd` until the owner ends or closes the pipe on standard input."""
    while os.getppid() == owner:
        if not stopped(owner):
            with suppress(OSError):  # a file server that is away for a while
                os.utime(fd)
        if select.select([0], [], [], seconds)[0]:
            return


def main() -> None:
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    beat(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))


if __name__ == "__main__":
    main()
