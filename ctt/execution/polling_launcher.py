"""PollingLauncher: a base for launchers that start each job when its needs are met, and look at all that run by one call.

A class that derives from it defines how one job is started, in which states jobs are, and how they are asked to end; the order of
jobs, retries, time limits, hangs, events and the continuation by a process in the background are here.
"""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ctt.core.errors import UsageError
from ctt.core.resources import JobLimits
from ctt.execution.jobs import event_log
from ctt.execution.jobs.background import start_in_background
from ctt.execution.jobs.dependent_jobs import DependentJobs
from ctt.execution.jobs.failures import Failure
from ctt.execution.jobs.late_files import RECORDED, LateFiles
from ctt.execution.jobs.retries import idle
from ctt.execution.jobs.spec import JobSpec
from ctt.execution.launchers import JobState
from ctt.execution.recorded_jobs import RecordedJobs

PATIENCE = 60.0  # seconds a job has for its checkpoint after `stop`, before `kill`


@dataclass
class Followed:
    """A job that was started. Times are monotonic: when it began to run and last made progress (None: it is queued), and
    was asked to stop for `reason`."""

    job: JobSpec
    began: float | None = None
    progressed: float = 0.0
    stop_requested: float | None = None
    reason: Failure | None = None


class PollingLauncher(DependentJobs, ABC):
    """Runs the jobs of a recorded. poll_s: seconds between two looks at them."""

    settings_class: ClassVar[type[JobLimits]] = JobLimits
    independent: ClassVar[bool] = False
    poll_s: ClassVar[float] = 0.5

    def __init__(self, recorded: RecordedJobs) -> None:
        super().__init__(recorded.jobs, recorded.store)
        self.folder = recorded.folder
        self.settings: Any = recorded.settings(self.settings_class)
        self.environment = {**os.environ, **recorded.environment}
        self.late = LateFiles(recorded.store, self.settings.fs_delay_s)
        self.followed: dict[str, Followed] = {}  # by the launcher's id of the job

    # What a launcher has to define

    @classmethod
    def check_host(cls, settings: Any) -> None:
        """Raises UsageError, before any work, if jobs cannot be launched from this host. settings: a `settings_class`."""

    @abstractmethod
    def start(self, job: JobSpec) -> str:
        """Starts the process `self.command(job)` with `self.environment` and its output appended to `job.log`; the store is
        to be seen under the same path there. Returns an id of the job, or of this attempt at it, that any process can use."""

    @abstractmethod
    def look(self, ids: Collection[str]) -> Mapping[str, JobState] | None:
        """The states of the jobs `ids`, by one call, also of those that another process has started; one that is left out
        is unknown, and has ended if this process has started it. None: no answer."""

    @abstractmethod
    def stop(self, ids: Collection[str]) -> None:
        """Sends SIGTERM to the processes of the jobs: they write their checkpoints and end. Those in a queue leave it."""

    def kill(self, ids: Collection[str]) -> None:
        """Ends jobs that have not ended after `stop`."""
        self.stop(ids)

    def close(self) -> None:
        """Frees what the launcher holds; no job runs any more."""

    def command(self, job: JobSpec) -> list[str]:
        """The command of a job's process."""
        return [sys.executable, "-m", "ctt.execution.jobs.job_process", str(job.path.resolve())]

    # The protocol

    @classmethod
    def of(cls, recorded: RecordedJobs) -> Self:
        """The launcher of a record."""
        return cls(recorded)

    @property
    def most(self) -> int | None:
        """How many jobs run at once."""
        jobs: int | None = self.settings.jobs
        return jobs

    def active(self) -> list[JobSpec]:
        """The jobs that were started and have not ended."""
        return [one.job for one in self.followed.values()]

    def run(self) -> None:
        """Returns when no job is left that can run. KeyboardInterrupt passes through and leaves the jobs running."""
        while self.waiting or self.followed:
            if (self.folder / event_log.CANCELLED).exists():
                self.cancel()
                return
            self._start_ready()
            if not self.followed and self.waiting and self.nothing_can_start():
                break
            time.sleep(self.poll_s)
            self.poll()
        self.close()

    def submit(self) -> None:
        """Not possible: raises UsageError."""
        raise UsageError("this launcher needs a process that starts the jobs; use --detach")

    def states(self) -> Mapping[int, JobState] | None:
        """State by number of the jobs that have not ended, whichever process started them; None: no answer."""
        last = event_log.last(self.folder)
        ids = {event["job_id"]: number for number, event in last.items() if event["event"] == "started" and event["job_id"]}
        found = self.look(ids.keys()) if ids else {}
        if found is None:
            return None
        return {ids[job_id]: state for job_id, state in found.items() if state.state != "ended"}

    def adopt(self) -> None:
        """Follows the jobs of an earlier launcher that still run, and keeps its recorded failures."""
        last = event_log.last(self.folder)
        states = self.states()
        if states is None:
            raise UsageError("the scheduler of these jobs does not answer")
        for job in list(self.waiting):
            if job.number in states:
                self._follow(job, last[job.number]["job_id"])
                self.waiting.remove(job)
        self.keep_recorded_failures()

    def cancel(self) -> bool:
        """Asks every job to write its checkpoint and end, and waits until all have; whether they have."""
        ended = self._end_all(Failure.CANCELLED)
        if ended:
            self.close()
        return ended

    def leave(self) -> str:
        """The jobs end with this process: they write their checkpoints, and a process in the background runs them again."""
        self._end_all(Failure.INTERRUPTED)
        self.close()
        log = self.folder.parent.parent / "detached.log"
        process = start_in_background(["-m", "ctt.app.relauncher", str(self.folder)], log, self.environment)
        return f"process {process.pid} continues them from their checkpoints, starts those that wait and prints to {log}"

    # Starting and following

    def _start_ready(self) -> None:
        for job in list(self.waiting):
            if self.most is not None and len(self.followed) >= self.most:
                return
            if all(map(self.done, job.wanted)):
                self.waiting.remove(job)
            elif self.may_start(job):
                job.remove_outcome()
                job.pid_file.unlink(missing_ok=True)
                job_id = self.start(job)
                self.waiting.remove(job)
                self._follow(job, job_id)
                self.record_event(job, "started", job_id=job_id)

    def _follow(self, job: JobSpec, job_id: str) -> None:
        self.followed[job_id] = Followed(job)
        self.attempts.begin(job)

    def poll(self) -> None:
        """One look at all jobs; records those that have ended, and stops those that exceed their limits."""
        states = self.look(self.followed.keys()) if self.followed else {}
        if states is None:
            return
        for job_id, one in list(self.followed.items()):
            state = states.get(job_id, JobState("ended"))
            if state.state == "ended":
                if one.reason is None and state.failure is None and self._awaited(one.job, state.code):
                    continue
                del self.followed[job_id]
                more: Any = dict(code=state.code, reason=one.reason, cause=state.failure, message=state.message, host=state.host)
                self.ended(one.job, job_id, **more)
            elif state.state == "running" and one.began is None:
                one.began = one.progressed = time.monotonic()
        self._watch()

    def _awaited(self, job: JobSpec, code: int | None) -> bool:
        """Whether what it has written is still to come; where its exit code is unknown, it may have recorded its outcome."""
        self.late.refresh([job])
        return self.late.awaited(job, RECORDED if code is None and job.outcome() is None else code)

    def _watch(self) -> None:
        now, settings = time.monotonic(), self.settings
        for job_id, one in self.followed.items():
            if one.stop_requested is not None:
                if now - one.stop_requested > PATIENCE:
                    self.kill([job_id])
            elif one.began is None:
                continue
            elif settings.timeout_min is not None and now - one.began > 60 * settings.timeout_min:
                self._request_stop([job_id], Failure.TIMEOUT)
            elif settings.hang_min is not None and now - one.progressed > 60 * settings.hang_min:
                one.progressed = max(one.began, now - idle(self.store, one.job))
                if now - one.progressed > 60 * settings.hang_min:
                    self._request_stop([job_id], Failure.HANG)

    def _request_stop(self, ids: Iterable[str], reason: Failure) -> None:
        asked = list(ids)
        for job_id in asked:
            one = self.followed[job_id]
            one.stop_requested, one.reason = time.monotonic(), one.reason or reason
        if asked:
            self.stop(asked)

    def _end_all(self, reason: Failure) -> bool:
        """Asks all jobs to stop and waits for twice PATIENCE at most; whether all have ended."""
        self.waiting = []
        self._request_stop(list(self.followed), reason)
        deadline = time.monotonic() + 2 * PATIENCE
        while self.followed and time.monotonic() < deadline:
            time.sleep(min(self.poll_s, 0.2))
            self.poll()
            self.waiting = []
        return not self.followed
