"""Queues: what runs a sweep's frozen jobs (this host, SLURM, or one of Hydra's launchers), and how one is interrupted."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ctt.config import Config
from ctt.job import stopping
from ctt.launch import events, frozen, record
from ctt.launch.frozen import Frozen
from ctt.launch.local import Local
from ctt.launch.snapshot import CODE, environment
from ctt.plan import Plan
from ctt.store import Store

Launch = Callable[[Sequence[Sequence[str]], int], Sequence[Any]]  # Hydra's Launcher.launch
LAUNCHER = "launcher.pid"  # the mark of the process that runs a record's queue


class Queue(Protocol):
    """Runs jobs, those that others need first. `running` is how many of them are alive."""

    def run(self) -> None:
        """Returns when no job is left that can run; KeyboardInterrupt passes through and leaves the jobs alone."""

    def submit(self) -> None:
        """Hands all jobs over, where there is somebody to hand them to."""

    def cancel(self) -> None:
        """Asks every job to write its checkpoint and end, and waits until they have."""

    def leave(self) -> str:
        """Lets the jobs go on without this process; says who looks after them."""


MakeQueue = Callable[[Config, Plan, Store, Sequence[Frozen]], Queue]


def local(config: Config, plan: Plan, store: Store, jobs: Sequence[Frozen]) -> Queue:
    """Jobs as processes of this host."""
    environ = code(jobs[0].path.parent, store)
    threads = max(stage.execution()["threads"] for stage in plan.stages.values())
    return Local(jobs, store, config.launch, device=config.device, threads=threads, environment=environ)


def slurm(config: Config, plan: Plan, store: Store, jobs: Sequence[Frozen]) -> Queue:
    """Jobs in SLURM's queue."""
    from ctt.launch.slurm import Slurm

    folder = jobs[0].path.parent
    return Slurm(jobs, store, config.launch, slurm_name(folder, store), code(folder, store))


def slurm_name(jobs: Path, store: Store) -> str:
    """The name of a record's jobs in SLURM's queue: no other record's are called so."""
    digest = hashlib.sha256(f"{platform.node()} {store.root}".encode()).hexdigest()[:8]
    return f"ctt-{jobs.parent.parent.name}-{jobs.parent.name}-{digest}"


def code(jobs: Path, store: Store) -> Mapping[str, str]:
    """The variables that make the jobs of a record run the code of their submission."""
    name = record.code_of(jobs.parent)
    return environment(store.root / CODE / name) if name else {}


class Waves:
    """Waves of jobs for Hydra's other launchers, which start a list of jobs and wait for all."""

    def __init__(self, launch: Launch, config: Config, plan: Plan, store: Store, jobs: Sequence[Frozen]) -> None:
        self.launch, self.width, self.plan, self.store = launch, config.launch.jobs, plan, store
        self.jobs = {job.target: job for job in jobs}

    def run(self) -> None:
        pending = [job for job in self.plan.jobs if job.target.key in self.jobs]
        for wave in self.plan.waves(pending, self.width, self.store.has):
            todo = [self.jobs[job.target.key] for job in wave if not job.finished(self.store.has)]
            if not todo:
                continue
            with _quiet_launcher():
                results = self.launch([[f"spec={_quoted(job.path)}"] for job in todo], todo[0].number)
            for result in results:
                _ = result.return_value  # raises what the job raised, if the launcher let it through
            if stopping() or (todo[0].path.parent / events.CANCELLED).exists():
                raise KeyboardInterrupt  # jobs in this process have taken the signal

    def submit(self) -> None:
        raise NotImplementedError("Hydra's launchers wait for their jobs")

    def cancel(self) -> None:
        """Jobs in this process have ended; those of submitit on this host are asked to."""
        end_marked([job.mark for job in self.jobs.values()])

    def leave(self) -> str:
        return "its jobs"


def end_marked(marks: Sequence[Path], patience: float = 30.0) -> int:
    """Asks the jobs on this host that wrote `marks` to write their checkpoints and end; waits. How many there were."""
    alive = {pid for mark in marks if (pid := frozen.running(mark)) not in (None, os.getpid())}
    for pid in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while alive and time.monotonic() < deadline and any(frozen.running(mark) in alive for mark in marks):
        time.sleep(0.1)
    return len(alive)


@contextlib.contextmanager
def launcher_of(jobs: Path) -> Iterator[None]:
    """Marks this process as the one that runs the queue of a record; SIGTERM then ends it as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    frozen.write_mark(jobs / LAUNCHER, "-")
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        (jobs / LAUNCHER).unlink(missing_ok=True)


def interrupted(queue: Queue, jobs: Path) -> None:
    """After Ctrl-C: asks whether to cancel the jobs or to leave them running; without a terminal they are cancelled."""
    answer = ""
    if sys.stdin.isatty() and not (jobs / events.CANCELLED).exists():
        with contextlib.suppress(KeyboardInterrupt, EOFError):
            answer = input("\nctt: cancel the jobs, or leave them running? [C/l] ").strip().lower()
    if answer.startswith("l"):
        print(f"ctt: left to {queue.leave()}; `ctt status {jobs.parent.parent.name}` shows how far they are")
        return
    print("\nctt: the jobs write their checkpoints and end", file=sys.stderr)
    queue.cancel()


def _quoted(path: Path) -> str:
    text = str(path.resolve()).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


@contextlib.contextmanager
def _quiet_launcher() -> Iterator[None]:
    """Hydra's launchers print each job; the follower shows the same, better."""
    logger = logging.getLogger("hydra_plugins")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
