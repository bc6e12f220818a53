"""Launchers: what runs the jobs of a sweep. Their protocol, and which of them runs the jobs of a record.

A distribution adds one as an entry point of the group `ctt.launchers`: `NAME = "package.module:Class"`; then `launch=NAME` chooses
it. A class may implement `Launcher`, or derive from `ctt.execution.polling_launcher.PollingLauncher`, which has all of it but
the start of one job, the states of jobs and their end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from ctt.config import Config
from ctt.core.errors import UsageError
from ctt.core.resources import LAUNCHERS, JobLimits
from ctt.execution.jobs import event_log
from ctt.execution.jobs.failures import Failure
from ctt.execution.jobs.spec import JobSpec
from ctt.execution.recorded_jobs import RecordedJobs, own_settings
from ctt.planning import Plan
from ctt.store import Store
from ctt.study import record


@dataclasses.dataclass(frozen=True)
class JobState:
    """What a launcher knows of a job: `state` is queued, running or ended.

    host: where it runs. code: exit code of its process, negative for a signal. failure, message: why it has failed, where the
    launcher knows it and the job could not record it; of a queued job, `message` is what it waits for.
    """

    state: str
    host: str | None = None
    code: int | None = None
    failure: Failure | None = None
    message: str = ""


class Launcher(Protocol):
    """Runs the jobs of a record, those that others need first, and retries them.

    settings_class: its own settings. independent: jobs that are submitted continue, and those that wait start, without this
    process. jobs: all of the record. most: how many run at once; None: all that are ready.
    """

    settings_class: ClassVar[type[JobLimits]]
    independent: ClassVar[bool]

    @property
    def jobs(self) -> Sequence[JobSpec]: ...

    @property
    def most(self) -> int | None: ...

    @classmethod
    def check_host(cls, settings: Any) -> None:
        """Raises UsageError, before any work, if jobs cannot be launched from this host. settings: a `settings_class`."""

    @classmethod
    def of(cls, recorded: RecordedJobs) -> Self:
        """The launcher of a record. It does nothing before one of its methods is called, and any process may make one."""

    def run(self) -> None:
        """Returns when no job is left that can run. KeyboardInterrupt passes through and leaves the jobs running."""

    def submit(self) -> None:
        """Submits all jobs to a scheduler; raises UsageError where there is none (`independent` is then False)."""

    def states(self) -> Mapping[int, JobState] | None:
        """State by number of the jobs that the scheduler has, by one call, whichever process submitted them; a job that
        is not in it has ended, or is found by its pid file. None: no answer."""

    def adopt(self) -> None:
        """Takes over from an earlier launcher of this record: follows its jobs instead of starting them again, and keeps
        its recorded failures. Raises UsageError if the scheduler does not answer."""

    def cancel(self) -> bool:
        """Asks every job to write its checkpoint and end, waits for that and records it; whether all have ended."""

    def leave(self) -> str:
        """Leaves the jobs without this process; returns what becomes of those that wait."""


MakeLauncher = Callable[[Config, Plan, Store, Sequence[JobSpec]], Launcher]


def launcher_class(name: str) -> type[Launcher]:
    """The class of the launcher of that name. Raises UsageError if there is none, or if its plugin cannot be imported."""
    found: type[Launcher] = LAUNCHERS.get(name)
    return found


def check_settings(config: Config) -> tuple[type[Launcher], Any]:
    """The class of the launcher that the settings choose, and its own settings. Raises UsageError or SettingError, on any host, if
    there is no such launcher or its settings are wrong."""
    found = launcher_class(config.launch.kind)
    return found, own_settings(config.launch, found.settings_class)


def check(config: Config) -> type[Launcher]:
    """The class of the launcher that the settings choose. Raises UsageError or SettingError, before any work, if there is no
    such launcher, if this host has not what it needs, or if its settings are wrong."""
    found, settings = check_settings(config)
    found.check_host(settings)
    return found


def of_plan(config: Config, plan: Plan, store: Store, jobs: Sequence[JobSpec]) -> Launcher:
    """The launcher that the settings choose, for the jobs of a plan."""
    threads = max(stage.execution()["threads"] for stage in plan.stages.values())
    return launcher_class(config.launch.kind).of(RecordedJobs(jobs[0].path.parent, store, jobs, config, threads))


def of_record(folder: Path, store: Store, jobs: Sequence[JobSpec] | None = None) -> Launcher:
    """The launcher of a record with the folder `folder` of jobs. Raises UsageError if its plugin is gone."""
    name, plugin = name_of(folder), record.launcher_plugin_of(folder.parent)
    if plugin and name not in LAUNCHERS:
        raise UsageError(f"the launcher {name} of {plugin} runs these jobs, and it is not installed here; install it")
    return launcher_class(name).of(RecordedJobs(folder, store, jobs))


def name_of(folder: Path) -> str:
    """Name of the launcher that runs the jobs of a record. Old records do not have it: there, SLURM's ids have a "_"."""
    if name := record.launcher_of(folder.parent):
        return name
    ids = {event["job_id"] for event in event_log.read(folder) if event["job_id"]}
    if any("_" in job_id for job_id in ids) or (folder.parent / "slurm").is_dir():
        return "slurm"
    return "local" if ids else "inproc"
