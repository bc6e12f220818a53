"""The process that runs a launcher: its pid file, and what happens to its jobs when it is interrupted."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctt.execution.jobs import event_log, pid_files

if TYPE_CHECKING:
    from ctt.execution.launchers import Launcher

LAUNCHER = "launcher.pid"  # pid file of the process that runs a record's jobs


class Terminated(KeyboardInterrupt):
    """This process has received SIGTERM."""


@contextlib.contextmanager
def launcher_of(jobs: Path) -> Iterator[None]:
    """Writes the launcher's pid file for the block, in which SIGTERM raises Terminated."""

    def interrupt(*_: object) -> None:
        raise Terminated

    pid_files.write_pid_file(jobs / LAUNCHER, "-")
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        (jobs / LAUNCHER).unlink(missing_ok=True)


def handle_interrupt(launcher: Launcher, jobs: Path, error: KeyboardInterrupt) -> None:
    """After Ctrl-C: asks whether to cancel the jobs or to leave them running; without a terminal they are cancelled.

    After SIGTERM, as at the shutdown of a login node, jobs that do not depend on this process are left running.
    """
    answer = "l" if isinstance(error, Terminated) and launcher.independent else ""
    if not answer and sys.stdin.isatty() and not (jobs / event_log.CANCELLED).exists():
        with contextlib.suppress(KeyboardInterrupt, EOFError):
            answer = input("\nctt: cancel the jobs, or leave them running? [C/l] ").strip().lower()
    if answer.startswith("l"):
        print(f"ctt: the jobs are left running: {launcher.leave()}; `ctt status {jobs.parent.parent.name}` shows their progress")
        return
    print("\nctt: the jobs write their checkpoints and end", file=sys.stderr)
    launcher.cancel()


def end_processes(files: Sequence[Path], patience: float = 30.0) -> int:
    """Sends SIGTERM to the processes of these pid files that run on this host, and waits until they have ended, for
    `patience` seconds at most. Returns how many there were."""
    alive = {pid for file in files if (pid := pid_files.running(file)) not in (None, os.getpid())}
    for pid in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while alive and time.monotonic() < deadline and any(pid_files.running(file) in alive for file in files):
        time.sleep(0.1)
    return len(alive)
