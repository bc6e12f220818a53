"""Session: a launcher's process: how it is known, interrupted, left, and started again without a terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Protocol

from ctt.execution.jobs import event_log, pid_files

LAUNCHER = "launcher.pid"  # the mark of the process that runs a record's queue


class Terminated(KeyboardInterrupt):
    """SIGTERM has asked this process to end."""


class JobQueue(Protocol):
    """Runs jobs, those that others need first. `independent`: they go on whatever becomes of this process."""

    independent: bool

    @property
    def jobs(self) -> Sized: ...

    @property
    def most(self) -> int | None:
        """How many run at once; None: all that are ready."""

    def run(self) -> None:
        """Returns when no job is left that can run; KeyboardInterrupt passes through and leaves the jobs alone."""

    def submit(self) -> None:
        """Hands all jobs over, where there is somebody to hand them to."""

    def cancel(self) -> None:
        """Asks every job to write its checkpoint and end, and waits until they have."""

    def leave(self) -> str:
        """Lets the jobs go on without this process; says who looks after them."""


@contextlib.contextmanager
def launcher_of(jobs: Path) -> Iterator[None]:
    """Marks this process as the one that runs the queue of a record; SIGTERM then ends it as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise Terminated

    pid_files.write_pid_file(jobs / LAUNCHER, "-")
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        (jobs / LAUNCHER).unlink(missing_ok=True)


def interrupted(queue: JobQueue, jobs: Path, error: KeyboardInterrupt) -> None:
    """After Ctrl-C: asks whether to cancel the jobs or to leave them running; without a terminal they are cancelled.

    After SIGTERM, as at the shutdown of a login node, jobs that need nobody here are left.
    """
    answer = "l" if isinstance(error, Terminated) and queue.independent else ""
    if not answer and sys.stdin.isatty() and not (jobs / event_log.CANCELLED).exists():
        with contextlib.suppress(KeyboardInterrupt, EOFError):
            answer = input("\nctt: cancel the jobs, or leave them running? [C/l] ").strip().lower()
    if answer.startswith("l"):
        print(f"ctt: left to {queue.leave()}; `ctt status {jobs.parent.parent.name}` shows how far they are")
        return
    print("\nctt: the jobs write their checkpoints and end", file=sys.stderr)
    queue.cancel()


def end_processes(marked: Sequence[Path], patience: float = 30.0) -> int:
    """Asks the jobs on this host that wrote the marks `marked` to write their checkpoints and end; waits. How many there were."""
    alive = {pid for pid_file in marked if (pid := pid_files.running(pid_file)) not in (None, os.getpid())}
    for pid in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while alive and time.monotonic() < deadline and any(pid_files.running(pid_file) in alive for pid_file in marked):
        time.sleep(0.1)
    return len(alive)


def in_background(
    words: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts Python with `words` in a session of its own, without a terminal; it prints to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
