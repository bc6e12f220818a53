"""Jobs that need each other, for launchers that start each job themselves: which may start, and what becomes of those that end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ctt.execution.jobs import event_log, pid_files
from ctt.execution.jobs.failures import Ending, Failure, classify, log_tail
from ctt.execution.jobs.lack_of_space import LackOfSpace
from ctt.execution.jobs.late_files import not_visible
from ctt.execution.jobs.retries import FINAL, Attempts
from ctt.execution.jobs.spec import JobSpec
from ctt.store import Store


class DependentJobs:
    """The jobs of a record, the first ones first. done: whether a key is built."""

    def __init__(self, jobs: Sequence[JobSpec], store: Store, done: Callable[[str], bool] | None = None) -> None:
        self.jobs, self.store, self.done = list(jobs), store, done or store.has
        self.folder = self.jobs[0].path.parent if self.jobs else Path()
        self.waiting = list(self.jobs)
        self.failed: dict[str, Failure] = {}  # target → class of its last failure; not retried
        self.attempts = Attempts(store)
        self.space = LackOfSpace(self.folder, store.root)

    def active(self) -> list[JobSpec]:
        """The jobs that have been started and have not ended."""
        raise NotImplementedError

    def ready(self, job: JobSpec) -> bool:
        """Its needs are in the store, or failed in a way that may not repeat: then the job builds them itself."""
        under_way = {one.target for one in self.active()} | {other.target for other in self.waiting}
        for need in job.needs:
            if self.done(need):
                continue
            if need in under_way or self.failed.get(need) in FINAL:
                return False
        return True

    def may_start(self, job: JobSpec) -> bool:
        """Whether to start it now."""
        if not self.ready(job) or self.attempts.paused(job):
            return False
        return self.space.lacking() is None and not self.built_elsewhere(job)

    def built_elsewhere(self, job: JobSpec) -> bool:
        """Another process builds one of its stages, so that it would only wait and occupy a device."""
        missing = (key for key in job.stages if not self.done(key))
        return any((found := self.store.holder(key)) is not None and found.state == "held" for key in missing)

    def nothing_can_start(self) -> bool:
        """Whether no waiting job can ever start, because its needs have failed or the disk is full; records them as blocked."""
        if (lack := self.space.lacking()) is not None:  # nobody knows when there is space
            for job in self.waiting:
                self.record_event(job, "ended", failure=Failure.BLOCKED, message=lack)
            self.waiting = []
            return True
        stuck = [job for job in self.waiting if not self.ready(job)]
        if len(stuck) < len(self.waiting):
            return False
        for job in stuck:
            need = next(n for n in job.needs if not self.done(n))
            self.record_event(job, "ended", failure=Failure.BLOCKED, message=f"the job it needs has failed: {need[:12]}")
        self.waiting = []
        return True

    def keep_recorded_failures(self) -> None:
        """Jobs whose failure an earlier launcher of this record has recorded are not run again; its retries count."""
        last = event_log.last(self.folder)
        self.attempts.recall(event_log.read(self.folder))
        for job in list(self.waiting):
            event = last.get(job.number, {})
            if event.get("event") == "ended" and event["class"]:
                self.failed[job.target] = Failure(event["class"])
                self.waiting.remove(job)

    def ended(
        self,
        job: JobSpec,
        job_id: str,
        *,
        code: int | None = None,
        reason: Failure | None = None,
        cause: Failure | None = None,
        message: str = "",
        host: str | None = None,
    ) -> None:
        """Records the end of a job, and lets it wait again if it is to be retried.

        reason: why the launcher has asked it to stop. cause, message: why it has ended without recording an outcome, where
        the launcher knows it.
        """
        outcome, stage = job.outcome(), pid_files.stage_of(job.pid_file) or job.target
        job.pid_file.unlink(missing_ok=True)
        if self.done(job.target) and (code == 0 or all(map(self.done, job.wanted))):
            self.failed.pop(job.target, None)
            self.record_event(job, "ended", job_id=job_id, host=host)
            return
        failed = classify(Ending(outcome, code=code, log=log_tail(job.log), hung=reason == Failure.HANG))
        failure, text = (failed.failure, failed.message) if failed else not_visible(self.store)
        if outcome is None and cause:
            failure, text = cause, message or str(cause)
        elif code == 0 and reason is None:
            failure, text = not_visible(self.store)
        failure = reason or failure
        if outcome is None and failure != Failure.CANCELLED:  # the job could not record it
            self.store.record_failure(stage, failure, text, "\n".join(failed.lines) if failed else None)
        if failure == Failure.DISK_FULL:
            self.space.ensure_recorded()
        retry = self.attempts.retry_after(job, failure) and reason != Failure.CANCELLED
        if retry:
            self.waiting.insert(0, job)
        else:
            self.failed[job.target] = failure
        event, more = ("retried", {"progressed": self.attempts.progressed(job)}) if retry else ("ended", {})
        self.record_event(job, event, job_id=job_id, host=host, failure=failure, message=text, **more)

    def record_event(self, job: JobSpec, event: str, *, host: str | None = None, **more: str | bool | None) -> None:
        """Adds an event of the job; host: None means this one."""
        more |= dict(host=host or os.uname().nodename, log=str(job.log))
        event_log.append(self.folder, job.number, job.label, job.target, event, **more)
