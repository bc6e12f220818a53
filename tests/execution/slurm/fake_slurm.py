"""A SLURM in memory: the output and effect of its commands, to test a launcher's decisions without a cluster."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from ctt.core.errors import UsageError
from ctt.core.resources import LaunchSettings
from ctt.execution.jobs import event_log, retries
from ctt.execution.jobs.spec import JobSpec, read
from ctt.execution.slurm import arrays, commands, slurm_launcher
from ctt.execution.slurm.slurm_launcher import SlurmLauncher
from ctt.store import Store


@dataclasses.dataclass
class Queued:
    """A task in the queue; `script` is its batch file."""

    state: str = "PENDING"
    reason: str = "None"
    node: str = ""
    script: str = ""


class FakeSlurm:
    """queue: squeue's output; accounts: sacct's ("7_0" → "CANCELLED|Dependency|None assigned"); silent: commands that do
    not answer; dependencies: those of the submitted arrays, which get the numbers 100, 101, …; refusals: what sbatch
    raises, one for each call; None: it accepts the jobs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.queue: dict[str, Queued] = {}
        self.accounts: dict[str, str] = {}
        self.silent: set[str] = set()
        self.calls: list[list[str]] = []
        self.refusals: list[UsageError | None] = []
        self.dependencies: dict[int, str] = {}
        self.longest = 1001
        monkeypatch.setattr(commands, "ask", self.ask)
        monkeypatch.setattr(commands, "PAUSES", (0.0, 0.0))
        monkeypatch.setattr(slurm_launcher, "UNKNOWN", 0.0)
        monkeypatch.setattr(retries, "LONGEST", 0.0)
        monkeypatch.setattr(arrays.Arrays, "affinity", classmethod(lambda cls: 2))
        monkeypatch.setattr(arrays.Arrays, "submit_tasks", lambda executor, command, count: self.sbatch(executor, count))

    def ask(self, command: Sequence[str]) -> str | None:
        self.calls.append(list(command))
        if command[0] in self.silent:
            return None
        if command[0] == "squeue":
            return "".join(self._row(task, command[-1]) + "\n" for task in self.queue)
        if command[0] == "sacct":
            lines = (f"{task}|{account}\n" for task, account in self.accounts.items())
            return "JobID|State|Reason|NodeList|ExitCode\n" + "".join(lines)
        if command[0] == "scancel":
            gone = [task for task in self.queue if {task, task.partition("_")[0]} & set(command[1:])]
            for task in gone:
                del self.queue[task]
            return ""
        assert command[0] == "scontrol"
        return f"MaxArraySize            = {self.longest}\n"

    def _row(self, task: str, columns: str) -> str:
        one = self.queue[task]
        for column, value in {"%i": task, "%T": one.state, "%r": one.reason, "%N": one.node, "%o": one.script}.items():
            columns = columns.replace(column, value)
        return columns

    def sbatch(self, executor: arrays.Arrays, count: int) -> str:
        if self.refusals and (refusal := self.refusals.pop(0)):
            raise refusal
        number = 100 + len(self.dependencies)
        self.dependencies[number] = executor.parameters.get("dependency", "")
        for index in range(count):
            self.queue[f"{number}_{index}"] = Queued(script=str(Path(executor.folder) / f"{number}.sh"))
        return str(number)

    def cancelled(self) -> list[str]:
        """The arguments of all calls of scancel."""
        return [task for call in self.calls if call[0] == "scancel" for task in call[1:]]


def record(folder: Path, number: int, needs: dict[int, list[int]], wanted: Sequence[str] = ()) -> list[JobSpec]:
    """A record of jobs. needs: job → jobs it needs; wanted: keys that each job builds in addition to its target."""
    jobs = folder / "sweeps" / "x" / f"{number:04d}" / "jobs"
    jobs.mkdir(parents=True)
    for job, others in needs.items():
        content = dict(label=f"job {job}", target=key(job), kind="vqa", needs=list(map(key, others)))
        content |= dict(stages=[key(job)], wanted=[key(job), *wanted])
        (jobs / f"{job:04d}.json").write_text(json.dumps(content))
    return read(jobs)


def key(job: int) -> str:
    return f"{job:064x}"


def launcher(folder: Path, jobs: Sequence[JobSpec], fs_delay_s: float = 0.0) -> SlurmLauncher:
    settings = LaunchSettings(kind="slurm", jobs=None, poll_s=0.001, fs_delay_s=fs_delay_s)
    return SlurmLauncher(jobs, Store(folder / "store"), settings, "x", {})


def publish(slurm: SlurmLauncher, job: int) -> None:
    """Publishes the target of a job."""
    with slurm.store.lease(key(job)) as lease:
        folder = slurm.store.work_folder(key(job))
        slurm.store.publish(key(job), folder, lease, dict(kind="x", settings={}, inputs={}))


def record_outcome(slurm: SlurmLauncher, job: int, failure: str | None, **more: object) -> None:
    """Writes the job's outcome file."""
    content = {"failure": failure, "message": "recorded", **more}
    slurm.by_number[job].outcome_file.write_text(json.dumps(content))


def poll(slurm: SlurmLauncher) -> None:
    """Polls as a launcher does, twice, because a job missing in the queue counts as ended at the second poll."""
    for _ in range(2):
        slurm.poll()
    slurm._submit()


def story(slurm: SlurmLauncher) -> list[tuple[int, str, str | None]]:
    return [(e["number"], e["event"], e["class"]) for e in event_log.read(slurm.folder) if e["event"] != "submitted"]
