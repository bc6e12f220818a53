"""SLURM: the whole plan submitted at once, one array for each set of needs, and followed with one question for all jobs.

submitit writes and submits the batch files. The rest is ours, because its jobs are COMPLETED for SLURM when they have
failed, and its multirun ends 15 s after one job was lost. Here a task's process (`ctt.launch.task`) exits as its job went,
writes its checkpoint and requeues itself when its time is up or it is preempted; what this process adds is to submit
again what was lost for good. Nothing depends on it: without it (`--detach`) only such jobs stay missing.
"""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmExecutor

from ctt.errors import UsageError
from ctt.launch import accounting, events, frozen
from ctt.launch.failures import Ending, Failure, classify, log_tail
from ctt.launch.frozen import Frozen
from ctt.launch.retries import FINAL, Attempt, again, idle, reached
from ctt.launch.task import compressed
from ctt.recorded.record import code_of
from ctt.resources import LaunchSettings, Resources
from ctt.store import Store

ASK_SECONDS = 60  # one question to SLURM
REFUSALS = 60  # in a row of a SLURM that had taken the jobs before, as while its controller is restarted
PROGRAMS = ("sbatch", "srun", "squeue", "scancel")
LARGEST_ARRAY = 1000  # SLURM's default limit


class Arrays(SlurmExecutor):
    """submitit's executor for its batch files; what a task runs is a command of ours, so nothing is pickled."""

    def array(self, command: str, count: int) -> str:
        """Submits an array of `count` tasks that run `command`; its number."""
        self.parameters["map_count"] = count
        try:
            return str(self._submit_command(command).job_id)
        except (FailedJobError, FailedSubmissionError) as error:
            from ctt.launch.site import site_file

            raise UsageError(
                f"sbatch refused the jobs: {error}; see the settings launch.*, also in {site_file()}"
            ) from error


class Slurm:
    """The jobs of a record on a cluster. `name` tells them from all other jobs of the user."""

    independent = True
    most: int | None = None

    def __init__(
        self,
        jobs: Sequence[Frozen],
        store: Store,
        settings: LaunchSettings,
        name: str,
        environment: Mapping[str, str],
        program: Sequence[str] = ("-m", "ctt.launch.task"),
    ) -> None:
        self.jobs, self.store, self.settings, self.name = list(jobs), store, settings, name
        self.environment, self.program = dict(environment), program
        self.folder = self.jobs[0].path.parent
        self.by_target = {job.target: job for job in self.jobs}
        self.by_number = {job.number: job for job in self.jobs}
        self.waiting = list(self.jobs)
        self.alive: dict[int, str] = {}  # number → SLURM's id, "12_3"
        self.states: dict[int, str] = {}
        self.moved: dict[int, float] = {}  # when a running job was last seen to get on
        self.hung: set[int] = set()
        self.hosts: dict[int, str] = {}
        self.absent: dict[int, int] = defaultdict(int)  # looks in a row at which SLURM did not know it
        self.failed: dict[str, Failure] = {}
        self.attempts: dict[int, list[Attempt]] = defaultdict(list)
        self.furthest = {job.number: reached(store, job.stages) for job in self.jobs}

    # Submitting

    def submit(self) -> None:
        """Submits all jobs. Raises UsageError, and has cancelled what SLURM had taken, if it refuses some."""
        self._adopt()
        try:
            self._submit()
        except UsageError:
            self.cancel()
            raise

    def _submit(self) -> None:
        """Submits what is waiting, needs first; drops what can't succeed. Raises UsageError if SLURM refuses some."""
        self.waiting = [
            job for job in self.waiting if job.number not in self.alive and not all(map(self.store.has, job.wanted))
        ]
        while self.waiting:
            blocked = [job for job in self.waiting if any(self.failed.get(n) in FINAL for n in self._missing(job))]
            for job in blocked:
                self._end(job, Failure.BLOCKED, "what it needs has failed")
            left = [job for job in self.waiting if job not in blocked]
            targets = {job.target for job in left}
            groups: dict[tuple[bool, tuple[str, ...]], list[Frozen]] = defaultdict(list)
            for job in left:
                missing = self._missing(job)
                if not targets.intersection(missing):
                    dependencies = sorted(self.alive[self.by_target[n].number] for n in missing if self._is_alive(n))
                    groups[job.trunk, tuple(dependencies)].append(job)
            for (trunk, after), members in groups.items():
                for first in range(0, len(members), LARGEST_ARRAY):
                    self._submit_array(members[first : first + LARGEST_ARRAY], self.settings.of(trunk), after)
            submitted = {job.number for members in groups.values() for job in members}
            self.waiting = [job for job in left if job.number not in submitted]

    def _adopt(self) -> None:
        """Takes on what earlier records of this sweep still have in the queue, so that no second job waits beside it."""
        ours = self.folder.parent
        others = [folder for folder in sorted(ours.parent.glob("[0-9]*")) if folder != ours]
        queue = (queued(self.name) or {}) if others else {}
        for folder in others if queue else ():
            told = events.last(folder / "jobs")
            for other in frozen.read(folder / "jobs") if code_of(folder) == code_of(ours) else ():
                task, job = told.get(other.number, {}).get("job_id"), self.by_target.get(other.target)
                if task in queue and job is not None and job.wanted == other.wanted and job.number not in self.alive:
                    for name in ("log", "mark", "outcome_file"):
                        link(getattr(job, name), getattr(other, name))
                    self.alive[job.number] = task
                    self._tell(job, "submitted")

    def _missing(self, job: Frozen) -> list[str]:
        return [need for need in job.needs if not self.store.has(need) and need in self.by_target]

    def _is_alive(self, target: str) -> bool:
        return self.by_target[target].number in self.alive

    def _submit_array(self, jobs: Sequence[Frozen], resources: Resources, dependencies: Sequence[str]) -> None:
        logs = self.folder.parent / "slurm"
        logs.mkdir(exist_ok=True)
        executor = Arrays(logs)
        executor.update_parameters(**self._parameters(resources, dependencies))
        numbers = [job.number for job in jobs]
        words = [sys.executable, "-u", *self.program, str(self.folder), compressed(numbers)]
        for job in jobs:
            job.forget_outcome()
        number = executor.array(shlex.join(words), len(jobs))
        for index, job in enumerate(jobs):
            log = executor.folder / f"{number}_{index}_0_log.out"
            link(job.log, log)
            self.alive[job.number] = f"{number}_{index}"
            for known in (self.states, self.absent, self.moved):
                known.pop(job.number, None)
            self.hung.discard(job.number)
            self._tell(job, "submitted")

    def _parameters(self, resources: Resources, dependencies: Sequence[str]) -> dict[str, Any]:
        """What submitit writes into the batch file."""
        given = vars(resources)
        names = (
            "partition",
            "account",
            "qos",
            "constraint",
            "exclude",
            "gres",
            "gpus_per_node",
            "cpus_per_task",
            "nodes",
        )
        parameters: dict[str, Any] = {name: given[name] for name in names if given[name] is not None}
        if resources.tasks_per_node is not None:
            parameters["ntasks_per_node"] = resources.tasks_per_node
        if resources.mem_gb is not None:
            parameters["mem"] = f"{int(resources.mem_gb * 1024)}M"
        seconds = int(60 * (resources.timeout_min or 1440))
        exports = [f"export {name}={shlex.quote(value)}" for name, value in self.environment.items()]
        options: dict[str, Any] = {"kill-on-invalid-dep": "yes", "requeue": True}
        for option in self.settings.options:
            key, _, value = option.lstrip("-").partition("=")
            options[key] = value or True
        if dependencies:
            parameters["dependency"] = "afterok:" + ":".join(dependencies)
        srun = ["--kill-on-bad-exit=1"]
        if resources.cpus_per_task is not None:  # srun does not take it over from sbatch any more
            srun.append(f"--cpus-per-task={resources.cpus_per_task}")
        return {
            **parameters,
            "job_name": self.name,
            "time": f"{seconds // 60}:{seconds % 60:02d}",
            "signal_delay_s": self.settings.signal_delay_s,
            "array_parallelism": self.settings.jobs or self.settings.array_parallelism,
            "stderr_to_stdout": True,
            "setup": [*self.settings.setup, *exports],
            "srun_args": srun,
            "additional_parameters": options,
        }

    # Following

    def run(self) -> None:
        """Submits all and returns when no job is left that can run. KeyboardInterrupt passes through, jobs unharmed."""
        self.submit()
        refusals = 0
        while self.alive or self.waiting:
            if (self.folder / events.CANCELLED).exists():
                self.cancel()
                return
            time.sleep(self.settings.poll_s)
            self.look()
            try:
                self._submit()
                refusals = 0
            except UsageError:
                refusals += 1
                if refusals > REFUSALS and not self.alive:
                    raise

    def look(self) -> None:
        """Asks SLURM once about all jobs, and once more about those that have ended."""
        queue = queued(self.name)
        if queue is None:
            return
        ended = []
        for number, task in list(self.alive.items()):
            job = self.by_number[number]
            if task in queue:
                state, host = queue[task]
                if state == "RUNNING" and self.states.get(number) != "RUNNING":
                    self._tell(job, "started", host=host)
                self.states[number], self.absent[number] = state, 0
                if state == "RUNNING":
                    self._end_if_it_hangs(job)
                else:
                    self.moved.pop(number, None)
                self.hosts[number] = host or self.hosts.get(number, "")
            else:
                self.absent[number] += 1
                if all(map(self.store.has, job.wanted)) or self.absent[number] > 1:
                    ended.append(job)
        if not ended:
            return
        unfinished = [job for job in ended if not all(map(self.store.has, job.wanted))]
        accounts = accounted(self.alive[job.number] for job in unfinished)
        for job in ended:
            account = accounts.get(self.alive[job.number])
            if job in unfinished and account is not None and account.alive:
                continue  # SLURM is between two states: it says more at the next look
            self._ended(job, account)

    def _end_if_it_hangs(self, job: Frozen) -> None:
        now, patience = time.monotonic(), self.settings.hang_min
        moved = self.moved.setdefault(job.number, now)
        if patience is None or job.number in self.hung or now - moved <= 60 * patience:
            return
        self.moved[job.number] = max(moved, now - idle(self.store, job))
        if now - self.moved[job.number] > 60 * patience:
            self.hung.add(job.number)
            ask(["scancel", self.alive[job.number]])

    def _ended(self, job: Frozen, account: accounting.Account | None) -> None:
        outcome = job.outcome()
        host = (account.nodes if account else None) or self.hosts.get(job.number) or None
        completed = account is not None and account.state == "COMPLETED"
        if self.store.has(job.target) and (completed or all(map(self.store.has, job.wanted))):
            self.failed.pop(job.target, None)
            self._tell(job, "ended", host=host)
            del self.alive[job.number]
            return
        hung = job.number in self.hung
        failed = classify(Ending(outcome, account, log=log_tail(job.log), hung=hung))
        failure = failed.failure if failed else Failure.KILLED
        message = failed.message if failed else "the job ended well, but what it made is not in the store"
        if failure == Failure.CANCELLED and self._dropped(job, account):
            failure = Failure.BLOCKED
        if failure == Failure.BLOCKED:  # never began: it is submitted again if what it needs is
            del self.alive[job.number]
            self.waiting.append(job)
            return
        if outcome is None:  # it could not say so itself
            self.store.record_failure(job.target, failure, message, "\n".join(failed.lines) if failed else None)
        now = reached(self.store, job.stages)
        self.attempts[job.number].append(Attempt(failure, now > self.furthest[job.number]))
        self.furthest[job.number] = max(now, self.furthest[job.number])
        if again(self.attempts[job.number]):
            self._tell(job, "retried", host=host, failure=failure, message=message)
            del self.alive[job.number]
            self.waiting.append(job)
        else:
            self.failed[job.target] = failure
            self._end(job, failure, message, host)

    def _dropped(self, job: Frozen, account: accounting.Account | None) -> bool:
        """SLURM cancelled it unbegun because what it waited for had failed; the accounting does not always tell so."""
        began = job.number in self.moved or (account is not None and account.nodes)
        return not began and any(not self._is_alive(need) for need in self._missing(job))

    def cancel(self) -> None:
        """Cancels every job and waits until SLURM has ended them: each has its time for a checkpoint."""
        end_all(self.name, self.alive.values())
        for number in list(self.alive):
            job = self.by_number[number]
            done = all(map(self.store.has, job.wanted))
            self._end(job, None if done else Failure.CANCELLED, "")

    def leave(self) -> str:
        """SLURM runs what it has; only what is lost for good is not submitted again."""
        return "SLURM"

    def _end(self, job: Frozen, failure: Failure | None, message: str, host: str | None = None) -> None:
        self._tell(job, "ended", failure=failure, message=message, host=host)
        self.alive.pop(job.number, None)

    def _tell(self, job: Frozen, event: str, **more: Any) -> None:
        more = {"job_id": self.alive.get(job.number), "log": str(job.log), **more}
        events.append(self.folder, job.number, job.label, job.target, event, **more)


def link(path: Path, to: Path) -> None:
    """Makes `path` a link to `to`, in place of the one of an earlier attempt."""
    temporary = path.with_suffix(".link")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(to, path.parent))
    os.replace(temporary, path)


def check_host() -> None:
    """Raises UsageError where SLURM's commands are missing."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        raise UsageError(
            f"launch=slurm needs a host that submits to a cluster: {', '.join(missing)} not on PATH; "
            "launch=local runs the jobs on this host"
        )


def ask(words: Sequence[str]) -> str | None:
    """What one of SLURM's commands says; None if it could not be asked, which passes."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=ASK_SECONDS, env=plain_environment())
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def plain_environment() -> dict[str, str]:
    """The environment without what SLURM says of a job this process may run in: it would be taken for options."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_")) or k == "SLURM_CONF"}


def queued(name: str) -> dict[str, tuple[str, str]] | None:
    """SLURM's id → (state, nodes) of the jobs called `name` that wait or run, by one call; None: no answer."""
    words = ["squeue", "-h", "-r", "-u", getpass.getuser(), "-n", name, "-o", "%i|%T|%N"]
    text = ask(words)
    if text is None:
        return None
    lines = (line.split("|") for line in text.splitlines() if line.count("|") == 2)
    return {task.strip(): (state, host) for task, state, host in lines}


def accounted(tasks: Iterable[str]) -> dict[str, accounting.Account]:
    """What the accounting says of these tasks, by one call for all; empty where there is no accounting."""
    arrays = sorted({task.partition("_")[0] for task in tasks})
    text = ask(accounting.command(arrays)) if arrays else None
    return accounting.read(text) if text else {}


def end_all(name: str, tasks: Iterable[str], patience: float = 120.0) -> bool:
    """Cancels these jobs called `name` and waits until they have ended, each has its time for a checkpoint; whether all did."""
    left = set(tasks)
    for some in _chunks(sorted(left), 200):
        ask(["scancel", *some])
    end = time.monotonic() + patience
    while left and time.monotonic() < end:
        time.sleep(0.5)
        if (queue := queued(name)) is not None:
            left &= queue.keys()
    return not left


def _chunks(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(values), size):
        yield values[first : first + size]
