"""The SLURM launcher: it submits the whole plan at once, one array for each set of needs, and polls all jobs in one call.

submitit writes and submits the batch files, but does not run the jobs: its jobs are COMPLETED in SLURM even if they have
failed, and its multirun ends 15 s after a job was lost. Here a task's process (`task_process`) has the exit code of its
job, and writes its checkpoint and requeues itself at its time limit or when it is preempted. This process only submits
lost jobs again; without it (`--detach`) the others run all the same.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from ctt.core.errors import UsageError
from ctt.core.resources import JobLimits, Resources, SlurmSettings
from ctt.execution.jobs import event_log, pid_files
from ctt.execution.jobs.failures import Ending, Failure, classify, log_of_failure, log_tail
from ctt.execution.jobs.lack_of_space import LackOfSpace
from ctt.execution.jobs.late_files import LateFiles, not_visible
from ctt.execution.jobs.retries import FINAL, Attempts, idle
from ctt.execution.jobs.spec import JobSpec
from ctt.execution.launchers import JobState
from ctt.execution.recorded_jobs import RecordedJobs
from ctt.execution.slurm import arrays, commands, queue_tasks
from ctt.execution.slurm.queue_tasks import Task, link
from ctt.execution.slurm.reasons import WaitReasons
from ctt.execution.slurm.refusals import Refusals, SubmitLimitReached
from ctt.execution.slurm.sacct import Account
from ctt.execution.slurm.task_process import compressed
from ctt.store import Store

UNBEGUN = (Failure.CANCELLED, Failure.KILLED)  # classes that a job which never began may get
REFUSALS = 20  # refused submissions in a row, a quarter of an hour, before giving up: the controller may be restarting
UNKNOWN = 60.0  # seconds for which a job may be in neither the queue nor the accounting before it counts as killed
ABSENT = 60  # polls after which a job missing in the queue has ended, even if the accounting calls it running


class SlurmLauncher:
    """Runs the jobs of a record on a cluster. name: that of all jobs of the sweep, and only those, in the queue."""

    settings_class: ClassVar[type[JobLimits]] = SlurmSettings
    independent: ClassVar[bool] = True
    most: int | None = None

    def __init__(
        self,
        jobs: Sequence[JobSpec],
        store: Store,
        settings: SlurmSettings,
        name: str,
        environment: Mapping[str, str],
        program: Sequence[str] = ("-m", "ctt.execution.slurm.task_process"),
    ) -> None:
        self.jobs, self.store, self.settings, self.name = list(jobs), store, settings, name
        self.environment, self.program = dict(environment), program
        self.folder = self.jobs[0].path.parent
        self.record = self.folder.parent
        self.by_target = {job.target: job for job in self.jobs}
        self.by_number = {job.number: job for job in self.jobs}
        self.waiting = list(self.jobs)
        self.alive: dict[int, Task] = {}
        self.failed: dict[str, Failure] = {}
        self.attempts = Attempts(store)
        self.space = LackOfSpace(self.folder, store.root)
        self.late = LateFiles(store, settings.fs_delay_s)
        self.largest = arrays.LARGEST
        self.unsure = False  # whether SLURM may have accepted an array although sbatch failed
        self.adopted = False
        self.reasons = WaitReasons()
        self.refusals = Refusals(settings.poll_s)
        self.unrecorded: set[str] = set()  # jobs of this sweep in the queue that no record has

    @classmethod
    def check_host(cls, settings: SlurmSettings) -> None:
        """Raises UsageError if SLURM's commands are missing."""
        commands.check_host()

    @classmethod
    def of(cls, recorded: RecordedJobs) -> Self:
        """The launcher of a record."""
        settings = recorded.settings(SlurmSettings)
        return cls(recorded.jobs, recorded.store, settings, recorded.name, recorded.environment)

    # Submitting

    def submit(self, patient: bool = False) -> None:
        """Submits all jobs; if `patient`, those beyond SLURM's limit stay waiting. If SLURM refuses some, the others are
        cancelled and UsageError is raised."""
        self.late.refresh(self.jobs)
        for job in self.jobs:
            self.attempts.begin(job)
        self._adopt_from_earlier()
        adopted = set(self.alive)
        self.largest = min(arrays.LARGEST, commands.longest_array())
        try:
            self._submit()
        except UsageError as error:
            if patient and isinstance(error, SubmitLimitReached):
                self._print(self.refusals.refused(error, len(self.alive)))
                return
            self._cancel(self.alive.keys() - adopted)
            if self.unsure:
                with contextlib.suppress(UsageError):
                    queue_tasks.cancel_unrecorded(self.record, self.name)
            raise

    def _submit(self) -> None:
        """Submits the waiting jobs, needs first; drops those that can't succeed. Raises UsageError if SLURM refuses some."""
        if self.unsure:
            queue_tasks.cancel_unrecorded(self.record, self.name)
            self.unsure = False
        self.waiting = [job for job in self.waiting if job.number not in self.alive and not self._done(job)]
        if self.waiting and (lack := self.space.lacking()) is not None:
            for job in self.waiting if not self.alive else ():
                self._end(job, Failure.BLOCKED, lack)
            self.waiting = self.waiting if self.alive else []
            return
        while True:
            if blocked := [job for job in self.waiting if self._blocked(job)]:
                for job in blocked:
                    self.failed[job.target] = Failure.BLOCKED
                    self._end(job, Failure.BLOCKED, "a job it needs has failed")
                self.waiting = [job for job in self.waiting if job not in blocked]
                continue  # with the jobs that need these
            targets = {job.target for job in self.waiting}
            groups: dict[tuple[bool, tuple[str, ...]], list[JobSpec]] = defaultdict(list)
            for job in self.waiting:
                missing = self._missing(job)
                if not targets.intersection(missing) and not self.attempts.paused(job):
                    needed = (self.alive.get(self.by_target[need].number) for need in missing)
                    groups[job.prefix, tuple(sorted(task.id for task in needed if task))].append(job)
            if not groups:
                return
            for (prefix, after), members in groups.items():
                for first in range(0, len(members), self.largest):
                    self._submit_array(members[first : first + self.largest], self.settings.of(prefix), after)
            self.waiting = [job for job in self.waiting if job.number not in self.alive]

    def adopt(self) -> None:
        """Follows the submitted jobs of this record, and keeps its recorded failures. Raises UsageError if SLURM does not
        answer."""
        queue, last = commands.queued(self.name), event_log.last(self.folder)
        if queue is None:
            raise UsageError("SLURM does not answer")
        self.adopted = True
        self.unrecorded = queue_tasks.unrecorded(self.record, queue)
        self.attempts.recall(event_log.read(self.folder))
        for job in self.jobs:
            event = last.get(job.number, {})
            if event.get("event") in ("submitted", "started"):  # `poll` finds out about those that have left the queue
                self.alive[job.number] = Task(event["job_id"], waits=bool(self._missing(job)))
                self.attempts.begin(job)
            elif event.get("event") == "ended" and event["class"]:
                self.failed[job.target] = Failure(event["class"])
        self.waiting = [job for job in self.waiting if job.number not in self.alive and job.target not in self.failed]

    def _adopt_from_earlier(self) -> None:
        """Follows jobs that earlier records of this sweep have in the queue instead of submitting them again: equal keys
        mean equal artifacts, whatever code was submitted."""
        numbers: dict[Path, dict[int, int]] = defaultdict(dict)
        for task, other in queue_tasks.earlier(self.record, self.name):
            job = self.by_target.get(other.target)
            if job is not None and job.wanted == other.wanted and job.number not in self.alive:
                for file in ("log", "pid_file", "outcome_file"):
                    link(getattr(job, file), getattr(other, file))
                self.alive[job.number] = Task(task, waits=bool(self._missing(job)))
                self._record_event(job, "submitted")
                numbers[other.path.parent][other.number] = job.number
        for folder, ours in numbers.items():
            self.attempts.recall(event_log.read(folder), ours)

    def _submit_array(self, jobs: Sequence[JobSpec], resources: Resources, dependencies: Sequence[str]) -> None:
        logs = self.record / "slurm"
        logs.mkdir(exist_ok=True)
        executor = arrays.Arrays(logs)
        given = (self.name, self.settings, resources, self.environment, dependencies)
        executor.update_parameters(**arrays.parameters(*given))
        for job in jobs:
            job.remove_outcome()
        command = [sys.executable, "-u", *self.program, str(self.folder), compressed([job.number for job in jobs])]
        try:
            number = executor.submit_tasks(command, len(jobs))
        except SubmitLimitReached:
            self.largest = max(1, len(jobs) // 2)
            raise
        except UsageError:
            self.unsure = True
            raise
        for index, job in enumerate(jobs):
            self.alive[job.number] = task = Task(f"{number}_{index}", waits=bool(dependencies))
            link(job.log, arrays.log_of(logs, task.id))
            self._record_event(job, "submitted")

    def _done(self, job: JobSpec) -> bool:
        return all(map(self.store.has, job.wanted))

    def _missing(self, job: JobSpec) -> list[str]:
        return [need for need in job.needs if not self.store.has(need) and need in self.by_target]

    def _blocked(self, job: JobSpec) -> bool:
        """A job it needs has failed for good, or is blocked itself."""
        return any(self.failed.get(need) in (*FINAL, Failure.BLOCKED) for need in self._missing(job))

    # Following

    def run(self) -> None:
        """Submits all jobs and returns when none is left that can run. KeyboardInterrupt leaves the jobs running."""
        self.submit(patient=True)
        while self.alive or self.waiting:
            if (self.folder / event_log.CANCELLED).exists():
                self.cancel()
                return
            time.sleep(self.settings.poll_s)
            self.poll()
            if self.refusals.wait(len(self.alive)):
                continue
            try:
                self._submit()
            except UsageError as error:
                self._print(self.refusals.refused(error, len(self.alive)))
                if self.refusals.in_a_row > REFUSALS and not self.alive:
                    raise
            else:
                self._print(self.refusals.accepted())

    def _print(self, lines: Iterable[str]) -> None:
        for line in lines:
            print(f"ctt: {self.name}: {line}", flush=True)

    def states(self) -> Mapping[int, JobState] | None:
        """State of the jobs in the queue, by one call of squeue; None: SLURM does not answer."""
        return queue_tasks.states(self.folder, self.name)

    def poll(self) -> None:
        """One call of squeue for all jobs, and one of sacct for those that have ended."""
        queue = commands.queued(self.name)
        if queue is None:
            return
        entries = [queue[task.id] for task in self.alive.values() if task.id in queue]
        waiting = Counter(entry.reason for entry in entries if not entry.host)
        waiting.update("Suspended" for entry in entries if entry.state in ("SUSPENDED", "STOPPED"))
        self._print(self.reasons.report(waiting, time.monotonic()))
        ended = []
        for number, task in self.alive.items():
            job = self.by_number[number]
            if task.id in queue:
                self._seen(job, task, queue[task.id].state, queue[task.id].host)
            else:
                task.absent += 1
                task.since = task.since if task.absent > 1 else time.monotonic()
                if self._done(job) or task.absent > 1:
                    ended.append(job)
        lost = {job.number for job in ended if not self._done(job)}
        accounts = commands.accounted(self.alive[number].id for number in lost)
        self.late.refresh(job for job in ended if job.number in lost)
        for job in ended:
            account = accounts.get(self.alive[job.number].id)
            if self._done(job) or not self._may_change(job, account):
                self._ended(job, account)

    def _may_change(self, job: JobSpec, account: Account | None) -> bool:
        """Whether the next polls may show more of a job that has left the queue: SLURM is between two states, neither the
        queue nor the accounting has it, or what it has written is not visible here yet."""
        task = self.alive[job.number]
        if account is not None and account.alive:
            return task.absent < ABSENT
        if account is None and job.outcome() is None:
            unknown = time.monotonic() - task.since < max(UNKNOWN, self.settings.fs_delay_s)
            return unknown and not self._dropped(job, None)
        return self.late.awaited(job, account.exit_code if account else None)

    def _seen(self, job: JobSpec, task: Task, state: str, host: str) -> None:
        """Records the state of a job in the queue; cancels one that is held, or runs without progress."""
        if state == "RUNNING" and task.state != "RUNNING":
            self._record_event(job, "started", host=host)
        task.state, task.host, task.absent = state, host or task.host, 0
        if state == commands.HELD and not task.held:
            task.held = self._scancel(task)
        now, patience = time.monotonic(), self.settings.hang_min
        if state != "RUNNING":
            task.progressed = None
        elif task.progressed is None:
            task.progressed = now
        elif patience is not None and not task.hung and now - task.progressed > 60 * patience:
            task.progressed = max(task.progressed, now - idle(self.store, job))
            if now - task.progressed > 60 * patience:
                task.hung = self._scancel(task)

    def _scancel(self, task: Task) -> bool:
        return commands.ask(["scancel", task.id]) is not None

    def _ended(self, job: JobSpec, account: Account | None) -> None:
        task, outcome = self.alive[job.number], job.outcome()
        host = (account.nodes if account else None) or task.host or None
        completed = (account and account.exit_code == 0) or (outcome and not outcome["failure"])
        if self.store.has(job.target) and (completed or self._done(job)):
            self.failed.pop(job.target, None)
            self._record_event(job, "ended", host=host)
            del self.alive[job.number]
            return
        log = log_of_failure(arrays.task_logs(job.log), outcome)
        failed = None if completed else classify(Ending(outcome, account, log=log_tail(log), hung=task.hung, held=task.held))
        failure, message = (failed.failure, failed.message) if failed else not_visible(self.store)
        if failure == Failure.BLOCKED or (failure in UNBEGUN and self._dropped(job, account)):
            del self.alive[job.number]  # it never began: submitted again if the job it needs is
            self.waiting.append(job)
            return
        if outcome is None or outcome.get("rank") or outcome["failure"] == Failure.KILLED:  # it could not record it
            stage = pid_files.stage_of(job.pid_file) or job.target
            self.store.record_failure(stage, failure, message, "\n".join(failed.lines) if failed else None)
        if failure == Failure.DISK_FULL:
            self.space.ensure_recorded()
        if self.attempts.retry_after(job, failure):
            more = dict(log=str(log), progressed=self.attempts.progressed(job))
            self._record_event(job, "retried", host=host, failure=failure, message=message, **more)
            del self.alive[job.number]
            self.waiting.append(job)
        else:
            self.failed[job.target] = failure
            self._end(job, failure, message, host=host, log=str(log))

    def _dropped(self, job: JobSpec, account: Account | None) -> bool:
        """SLURM cancelled it before it began because a job it needs failed; the accounting may lack that, or lag behind."""
        task = self.alive[job.number]
        began = task.progressed is not None or job.log.exists() or (account is not None and account.nodes)
        needs = (self.by_target[need].number for need in self._missing(job))
        return task.waits and not began and any(need not in self.alive for need in needs)

    def cancel(self) -> bool:
        """Cancels every job and waits while they write their checkpoints and end."""
        return self._cancel(list(self.alive))

    def _cancel(self, numbers: Collection[int]) -> bool:
        tasks = {self.alive[number].id for number in numbers} | self.unrecorded
        ended: set[int] = set()
        if self.adopted and (queue := commands.queued(self.name)) is not None:
            tasks &= queue.keys()  # records share jobs: the launcher of another one may have cancelled some
            ended = {number for number in numbers if self.alive[number].id not in queue}
        gone = commands.end_all(self.name, tasks)
        for number in numbers:
            job = self.by_number[number]
            if self._done(job) or number not in ended:
                self._end(job, None if self._done(job) else Failure.CANCELLED, "")
            elif (outcome := job.outcome()) and outcome["failure"]:  # it had ended before, and no launcher recorded it
                self._end(job, Failure(outcome["failure"]), outcome["message"])
            self.alive.pop(number, None)
        return gone

    def leave(self) -> str:
        """SLURM runs the submitted jobs; lost ones are not submitted again."""
        return "SLURM starts those that wait"

    def _end(self, job: JobSpec, failure: Failure | None, message: str, **more: Any) -> None:
        self._record_event(job, "ended", failure=failure, message=message, **more)
        self.alive.pop(job.number, None)

    def _record_event(self, job: JobSpec, event: str, **more: Any) -> None:
        task = self.alive.get(job.number)
        more = {"job_id": task and task.id, "log": str(job.log), **more}
        event_log.append(self.folder, job.number, job.label, job.target, event, **more)
