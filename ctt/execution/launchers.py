"""Queues: what runs a sweep's frozen jobs: this host, SLURM, or one of Hydra's launchers."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctt.config import Config
from ctt.core.build_context import stopping
from ctt.execution.jobs import event_log
from ctt.execution.jobs.session import JobQueue, end_processes
from ctt.execution.jobs.snapshot import CODE, environment
from ctt.execution.jobs.spec import JobSpec
from ctt.execution.local.local_launcher import LocalLauncher
from ctt.plan import Plan
from ctt.store import Store
from ctt.study import record

Launch = Callable[[Sequence[Sequence[str]], int], Sequence[Any]]  # Hydra's Launcher.launch


KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**26),
}
"""glibc keeps what a training step frees for the next one, instead of giving it back and asking for it anew, page by page.

On two cores world models with both losses trained at 9.9 steps/s instead of 8.1 (data=mini, four runs each). No result changes.
"""
MakeQueue = Callable[[Config, Plan, Store, Sequence[JobSpec]], JobQueue]


def local(config: Config, plan: Plan, store: Store, jobs: Sequence[JobSpec]) -> LocalLauncher:
    """Jobs as processes of this host."""
    environ = variables(jobs[0].path.parent, store)
    threads = max(stage.execution()["threads"] for stage in plan.stages.values())
    return LocalLauncher(jobs, store, config.launch, device=config.device, threads=threads, environment=environ)


def slurm(config: Config, plan: Plan, store: Store, jobs: Sequence[JobSpec]) -> JobQueue:
    """Jobs in SLURM's queue."""
    from ctt.execution.slurm.slurm_launcher import SlurmLauncher

    folder = jobs[0].path.parent
    return SlurmLauncher(jobs, store, config.launch, slurm_name(folder, store), variables(folder, store))


def slurm_name(jobs: Path, store: Store) -> str:
    """The name of a sweep's jobs in SLURM's queue, on every host of the cluster: only its records' are called so."""
    digest = hashlib.sha256(str(store.root).encode()).hexdigest()[:8]
    return f"ctt-{jobs.parent.parent.name}-{digest}"


def variables(jobs: Path, store: Store) -> Mapping[str, str]:
    """What a record's jobs find in their environment: the code of their submission, and how memory is kept."""
    name = record.code_of(jobs.parent)
    kept = {key: value for key, value in KEPT_MEMORY.items() if key not in os.environ}
    return {**kept, **(environment(store.root / CODE / name) if name else {})}


class Waves:
    """Waves of jobs for Hydra's other launchers, which start a list of jobs and wait for all."""

    independent = False

    def __init__(self, launch: Launch, config: Config, plan: Plan, store: Store, jobs: Sequence[JobSpec]) -> None:
        self.launch, self.most, self.plan, self.store = launch, config.launch.jobs, plan, store
        self.jobs = {job.target: job for job in jobs}

    def run(self) -> None:
        pending = [job for job in self.plan.jobs if job.target.key in self.jobs]
        for wave in self.plan.waves(pending, self.most, self.store.has):
            todo = [self.jobs[job.target.key] for job in wave if not job.finished(self.store.has)]
            if not todo:
                continue
            with _quiet_launcher():
                results = self.launch([[f"spec={_quoted(job.path)}"] for job in todo], todo[0].number)
            for result in results:
                _ = result.return_value  # raises what the job raised, if the launcher let it through
            if stopping() or (todo[0].path.parent / event_log.CANCELLED).exists():
                raise KeyboardInterrupt  # jobs in this process have taken the signal

    def submit(self) -> None:
        raise NotImplementedError("Hydra's launchers wait for their jobs")

    def cancel(self) -> None:
        """Jobs in this process have ended; those of submitit on this host are asked to."""
        end_processes([job.pid_file for job in self.jobs.values()])

    def leave(self) -> str:
        return "its jobs"


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
