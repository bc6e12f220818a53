"""SLURM: the whole plan submitted at once, one array for each set of needs, and followed with one question for all jobs.

submitit writes and submits the batch files. The rest is ours, because its jobs are COMPLETED for SLURM when they have
failed, and its multirun ends 15 s after one job was lost. Here a task's process (`task_process`) exits as its job went,
writes its checkpoint and requeues itself when its time is up or it is preempted; what this process adds is to submit
again what was lost for good. Nothing depends on it: without it (`--detach`) only such jobs stay missing.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ctt.core.errors import UsageError
from ctt.core.resources import LaunchSettings, Resources
from ctt.execution.jobs import event_log, pid_files
from ctt.execution.jobs.failures import Ending, Failure, classify, log_tail, telling
from ctt.execution.jobs.retries import FINAL, Attempts, idle
from ctt.execution.jobs.spec import JobSpec
from ctt.execution.slurm import arrays, commands, queue_tasks
from ctt.execution.slurm.accounting import Account
from ctt.execution.slurm.queue_tasks import Task, link
from ctt.execution.slurm.task_process import compressed
from ctt.store import Store

UNBEGUN = (Failure.CANCELLED, Failure.KILLED)  # what one that never began may look like
REFUSALS = 60  # in a row of a SLURM that had taken the jobs before, as while its controller is restarted
ABSENT = 60  # looks after which one that the queue does not know has ended, though the accounting says that it runs


class SlurmLauncher:
    """The jobs of a record on a cluster. `name` tells them from all other jobs of the user."""

    independent = True
    most: int | None = None

    def __init__(
        self,
        jobs: Sequence[JobSpec],
        store: Store,
        settings: LaunchSettings,
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
        self.largest = arrays.LARGEST
        self.unsure = False  # whether SLURM may have taken an array though it seemed to refuse it

    # Submitting

    def submit(self, patient: bool = False) -> None:
        """Submits all jobs; those that there is no room for remain waiting if `patient`. Raises UsageError, and has
        cancelled what SLURM had taken of them, if it refuses some."""
        for job in self.jobs:
            self.attempts.begin(job)
        self._adopt()
        adopted = set(self.alive)
        self.largest = min(arrays.LARGEST, commands.longest_array())
        try:
            self._submit()
        except UsageError as error:
            if patient and isinstance(error, arrays.NoRoom):
                return
            self._cancel(self.alive.keys() - adopted)
            if self.unsure:
                with contextlib.suppress(UsageError):
                    queue_tasks.end_strangers(self.record, self.name)
            raise

    def _submit(self) -> None:
        """Submits what is waiting, needs first; drops what can't succeed. Raises UsageError if SLURM refuses some."""
        if self.unsure:
            queue_tasks.end_strangers(self.record, self.name)
            self.unsure = False
        self.waiting = [job for job in self.waiting if job.number not in self.alive and not self._done(job)]
        while self.waiting:
            if blocked := [job for job in self.waiting if self._blocked(job)]:
                for job in blocked:
                    self.failed[job.target] = Failure.BLOCKED
                    self._end(job, Failure.BLOCKED, "what it needs has failed")
                self.waiting = [job for job in self.waiting if job not in blocked]
                continue  # with those that need these
            targets = {job.target for job in self.waiting}
            groups: dict[tuple[bool, tuple[str, ...]], list[JobSpec]] = defaultdict(list)
            for job in self.waiting:
                missing = self._missing(job)
                if not targets.intersection(missing):
                    needed = (self.alive.get(self.by_target[need].number) for need in missing)
                    groups[job.prefix, tuple(sorted(task.id for task in needed if task))].append(job)
            for (prefix, after), members in groups.items():
                for first in range(0, len(members), self.largest):
                    self._submit_array(members[first : first + self.largest], self.settings.of(prefix), after)
            self.waiting = [job for job in self.waiting if job.number not in self.alive]

    def _adopt(self) -> None:
        """Takes on what earlier records of this sweep still have in the queue, so that no second job waits beside it: a key
        means the same whatever code was submitted with it."""
        for task, other in queue_tasks.earlier(self.record, self.name):
            job = self.by_target.get(other.target)
            if job is not None and job.wanted == other.wanted and job.number not in self.alive:
                for file in ("log", "mark", "outcome_file"):
                    link(getattr(job, file), getattr(other, file))
                self.alive[job.number] = Task(task, waits=bool(self._missing(job)))
                self._record_event(job, "submitted")

    def _submit_array(self, jobs: Sequence[JobSpec], resources: Resources, dependencies: Sequence[str]) -> None:
        logs = self.record / "slurm"
        logs.mkdir(exist_ok=True)
        executor = arrays.Arrays(logs)
        given = (self.name, self.settings, resources, self.environment, dependencies)
        executor.update_parameters(**arrays.parameters(*given))
        for job in jobs:
            job.forget_outcome()
        words = [sys.executable, "-u", *self.program, str(self.folder), compressed([job.number for job in jobs])]
        try:
            number = executor.submit_command(words, len(jobs))
        except arrays.NoRoom:
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
        """What it needs has failed and would fail again, or was never begun for that reason."""
        return any(self.failed.get(need) in (*FINAL, Failure.BLOCKED) for need in self._missing(job))

    # Following

    def run(self) -> None:
        """Submits all and returns when no job is left that can run. KeyboardInterrupt passes through, jobs unharmed."""
        self.submit(patient=True)
        refusals = 0
        while self.alive or self.waiting:
            if (self.folder / event_log.CANCELLED).exists():
                self.cancel()
                return
            time.sleep(self.settings.poll_s)
            self.look()
            try:
                self._submit()
                refusals = 0
            except arrays.NoRoom:
                refusals = 0
            except UsageError:
                refusals += 1
                if refusals > REFUSALS and not self.alive:
                    raise

    def look(self) -> None:
        """Asks SLURM once about all jobs, and once more about those that have ended."""
        queue = commands.queued(self.name)
        if queue is None:
            return
        ended = []
        for number, task in self.alive.items():
            job = self.by_number[number]
            if task.id in queue:
                self._seen(job, task, *queue[task.id])
            else:
                task.absent += 1
                if self._done(job) or task.absent > 1:
                    ended.append(job)
        lost = {job.number for job in ended if not self._done(job)}
        accounts = commands.accounted(self.alive[number].id for number in lost)
        for job in ended:
            account = accounts.get(self.alive[job.number].id)
            absent = self.alive[job.number].absent
            if job.number in lost and account is not None and account.alive and absent < ABSENT:
                continue  # SLURM is between two states: it says more at the next look
            self._ended(job, account)

    def _seen(self, job: JobSpec, task: Task, state: str, host: str) -> None:
        """SLURM has it still. One that runs, but gets nowhere, is ended."""
        if state == "RUNNING" and task.state != "RUNNING":
            self._record_event(job, "started", host=host)
        task.state, task.host, task.absent = state, host or task.host, 0
        if state == commands.HELD and not task.held:
            task.held = self._scancel(task)
        now, patience = time.monotonic(), self.settings.hang_min
        if state != "RUNNING":
            task.moved = None
        elif task.moved is None:
            task.moved = now
        elif patience is not None and not task.hung and now - task.moved > 60 * patience:
            task.moved = max(task.moved, now - idle(self.store, job))
            if now - task.moved > 60 * patience:
                task.hung = self._scancel(task)

    def _scancel(self, task: Task) -> bool:
        return commands.ask(["scancel", task.id]) is not None

    def _ended(self, job: JobSpec, account: Account | None) -> None:
        task, outcome = self.alive[job.number], job.outcome()
        host = (account.nodes if account else None) or task.host or None
        completed = (account and account.state == "COMPLETED") or (outcome and not outcome["failure"])
        if self.store.has(job.target) and (completed or self._done(job)):
            self.failed.pop(job.target, None)
            self._record_event(job, "ended", host=host)
            del self.alive[job.number]
            return
        log = telling(arrays.logs_beside(job.log), outcome)
        failed = classify(Ending(outcome, account, log=log_tail(log), hung=task.hung, held=task.held))
        failure = failed.failure if failed else Failure.KILLED
        message = failed.message if failed else "the job ended well, but what it made is not in the store"
        if failure == Failure.BLOCKED or (failure in UNBEGUN and self._dropped(job, account)):
            del self.alive[job.number]  # it never began: it is submitted again if what it needs is
            self.waiting.append(job)
            return
        if outcome is None or outcome.get("rank") or outcome["failure"] == Failure.KILLED:  # it could not say so itself
            stage = pid_files.stage_of(job.pid_file) or job.target
            self.store.record_failure(stage, failure, message, "\n".join(failed.lines) if failed else None)
        if self.attempts.again(job, failure):
            self._record_event(job, "retried", host=host, failure=failure, message=message, log=str(log))
            del self.alive[job.number]
            self.waiting.append(job)
        else:
            self.failed[job.target] = failure
            self._end(job, failure, message, host=host, log=str(log))

    def _dropped(self, job: JobSpec, account: Account | None) -> bool:
        """SLURM cancelled it unbegun because what it waited for had failed; the accounting may not tell so, or lag behind."""
        task = self.alive[job.number]
        began = task.moved is not None or job.log.exists() or (account is not None and account.nodes)
        needs = (self.by_target[need].number for need in self._missing(job))
        return task.waits and not began and any(need not in self.alive for need in needs)

    def cancel(self) -> None:
        """Cancels every job and waits until SLURM has ended them: each has its time for a checkpoint."""
        self._cancel(list(self.alive))

    def _cancel(self, numbers: Collection[int]) -> None:
        commands.end_all(self.name, [self.alive[number].id for number in numbers])
        for number in numbers:
            job = self.by_number[number]
            self._end(job, None if self._done(job) else Failure.CANCELLED, "")

    def leave(self) -> str:
        """SLURM runs what it has; only what is lost for good is not submitted again."""
        return "SLURM"

    def _end(self, job: JobSpec, failure: Failure | None, message: str, **more: Any) -> None:
        self._record_event(job, "ended", failure=failure, message=message, **more)
        self.alive.pop(job.number, None)

    def _record_event(self, job: JobSpec, event: str, **more: Any) -> None:
        task = self.alive.get(job.number)
        more = {"job_id": task and task.id, "log": str(job.log), **more}
        event_log.append(self.folder, job.number, job.label, job.target, event, **more)
