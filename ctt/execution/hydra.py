"""Hydra's other launchers: they start a list of jobs and wait for all of them, so a plan is given to them in waves."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

from ctt.config import Config
from ctt.core.build_context import stopping
from ctt.core.errors import UsageError
from ctt.core.resources import JobLimits
from ctt.execution.jobs import event_log
from ctt.execution.jobs.lack_of_space import LackOfSpace
from ctt.execution.jobs.session import end_processes
from ctt.execution.jobs.spec import JobSpec
from ctt.execution.launchers import JobState
from ctt.execution.recorded_jobs import RecordedJobs
from ctt.planning import Plan
from ctt.store import Store
from ctt.sweep import quoted

Launch = Callable[[Sequence[Sequence[str]], int], Sequence[Any]]  # Hydra's Launcher.launch


class WaveLauncher:
    """Gives the jobs of a plan to Hydra's `launch`, those that others need first; None: there is no process to run them."""

    settings_class: ClassVar[type[JobLimits]] = JobLimits
    independent: ClassVar[bool] = False

    def __init__(
        self,
        launch: Launch | None,
        plan: Plan | None,
        store: Store,
        jobs: Sequence[JobSpec],
        limits: JobLimits | None = None,
    ) -> None:
        self.launch, self.plan, self.store = launch, plan, store
        self.limits = limits or JobLimits()
        self.most = self.limits.jobs
        self.jobs = list(jobs)

    @classmethod
    def check_host(cls, settings: JobLimits) -> None:
        """Hydra has checked its launcher."""

    @classmethod
    def of(cls, recorded: RecordedJobs) -> Self:
        """The launcher of a record, which can cancel its jobs, but not run them: only Hydra can make one that does."""
        return cls(None, None, recorded.store, recorded.jobs)

    @classmethod
    def of_plan(cls, launch: Launch, config: Config, plan: Plan, store: Store, jobs: Sequence[JobSpec]) -> Self:
        """The launcher of a plan's jobs by Hydra's `launch`."""
        return cls(launch, plan, store, jobs, config.launch)

    def run(self) -> None:
        """Runs the waves. Raises KeyboardInterrupt after a signal or `ctt cancel`."""
        if self.launch is None or self.plan is None:
            raise UsageError("launch.kind=inproc runs jobs in the process of the sweep, with one of Hydra's own launchers")
        jobs = {job.target: job for job in self.jobs}
        pending = [job for job in self.plan.jobs if job.target.key in jobs]
        for wave in self.plan.waves(pending, self.most, self.store.has):
            todo = [jobs[job.target.key] for job in wave if not job.finished(self.store.has)]
            if not todo:
                continue
            if LackOfSpace(todo[0].path.parent, self.store.root).lacking() is not None:
                return
            with _quiet_launcher():
                results = self.launch([[f"spec={quoted(str(job.path.resolve()))}"] for job in todo], todo[0].number)
            outcomes = [result.return_value for result in results]  # raises the job's exception, unless the launcher handled it
            ended_well = [job.target for job, outcome in zip(todo, outcomes, strict=True) if outcome and not outcome["failure"]]
            self.store.wait_for(ended_well, self.limits.fs_delay_s, stopping)  # jobs of another host
            if stopping() or (todo[0].path.parent / event_log.CANCELLED).exists():
                raise KeyboardInterrupt  # jobs in this process have handled the signal

    def submit(self) -> None:
        """Not possible: raises UsageError."""
        raise UsageError("Hydra's launchers wait for their jobs")

    def states(self) -> Mapping[int, JobState]:
        """Nothing: jobs of this host are found by their pid files."""
        return {}

    def adopt(self) -> None:
        """Does nothing: jobs end with the process of the sweep, or have a pid file."""

    def cancel(self) -> bool:
        """Ends the jobs that have a process of their own on this host; those in this process have ended."""
        end_processes([job.pid_file for job in self.jobs])
        return True

    def leave(self) -> str:
        """Running jobs continue; no other starts."""
        return "those that have not started are not run"


@contextlib.contextmanager
def _quiet_launcher() -> Iterator[None]:
    """Suppresses the line that Hydra's launchers print for each job; ctt shows their progress itself."""
    logger = logging.getLogger("hydra_plugins")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
