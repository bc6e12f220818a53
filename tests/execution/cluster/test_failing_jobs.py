"""What the launcher does on a real SLURM when jobs fail in many ways; the jobs count steps instead of training."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ctt.core.resources import LaunchSettings, Resources
from ctt.execution.jobs import event_log
from ctt.execution.jobs.spec import JobSpec, read
from ctt.execution.slurm.commands import queued
from ctt.execution.slurm.slurm_launcher import SlurmLauncher
from ctt.store import Store
from tests.waiting import until

pytestmark = pytest.mark.slurm
PROGRAM = (str(Path(__file__).with_name("steps.py")),)


class Sweep:
    """A record of counting jobs, and their launcher in a thread."""

    def __init__(self, folder: Path, cluster: Any, number: int = 1, **settings: Any) -> None:
        self.cluster, self.jobs = cluster, folder / f"{number:04d}" / "jobs"
        self.jobs.mkdir(parents=True)
        self.store = Store(folder / "store")
        given = {"kind": "slurm", "jobs": None, "poll_s": 0.5, "signal_delay_s": 30, "timeout_min": 5.0, **settings}
        self.settings = LaunchSettings(**given)
        self.thread: threading.Thread | None = None
        self.name = f"ctt-{folder.name}"

    def add(self, number: int, steps: int = 1, needs: Sequence[int] = (), prefix: bool = False, **bad: bool) -> None:
        key = f"{number:064x}"
        content = dict(store=str(self.store.root), label=f"job {number}", target=key, stages=[key], wanted=[key])
        content |= dict(kind="world_model" if prefix else "vqa", needs=[f"{n:064x}" for n in needs])
        content |= {"steps": steps, "raises": False, **bad}
        (self.jobs / f"{number:04d}.json").write_text(json.dumps(content))

    def start(self) -> None:
        self.slurm = SlurmLauncher(read(self.jobs), self.store, self.settings, self.name, {}, PROGRAM)
        self.thread = threading.Thread(target=self.slurm.run)
        self.thread.start()

    def finish(self, seconds: float = 150) -> None:
        assert self.thread is not None
        self.thread.join(seconds)
        if self.thread.is_alive():
            (self.jobs / event_log.CANCELLED).touch()
            self.thread.join(60)
            raise AssertionError(f"not over in time: {self.story()}")
        assert queued(self.name) == {}

    def job(self, number: int) -> JobSpec:
        return next(job for job in read(self.jobs) if job.number == number)

    def task(self, number: int) -> str:
        return str(event_log.last(self.jobs)[number]["job_id"])

    def runs(self, number: int) -> bool:
        """Whether it counts: its log has the step from which it started."""
        log = self.job(number).log
        return log.exists() and "from step" in log.read_text()

    def counted(self) -> dict[int, int]:
        return {int(key, 16): self.store.manifest(key)["steps"] for key in list(self.store.keys())}

    def classes(self) -> dict[int, str | None]:
        return {n: e["class"] for n, e in sorted(event_log.last(self.jobs).items()) if e["event"] == "ended"}

    def story(self) -> list[tuple[int, str, str | None]]:
        return [(e["number"], e["event"], e["class"]) for e in event_log.read(self.jobs)]


def test_the_whole_plan_is_queued_at_once_and_a_failed_job_stops_only_what_needs_it(cluster: Any, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, cluster, prefix=Resources(cpus_per_task=2), cpus_per_task=1, hang_min=0.25)
    sweep.add(0, prefix=True)
    sweep.add(1, raises=True, prefix=True)
    for number, need in ((2, 0), (3, 0), (4, 1), (5, 0)):
        sweep.add(number, needs=[need])
    sweep.add(6, hangs=True)
    sweep.add(7, dies=True)
    sweep.start()
    until(lambda: len(event_log.read(sweep.jobs)) >= 8)
    submitted = {e["number"]: e["job_id"] for e in event_log.read(sweep.jobs) if e["event"] == "submitted"}
    arrays = {number: task.partition("_")[0] for number, task in submitted.items()}
    assert arrays[0] == arrays[1] and arrays[2] == arrays[3] == arrays[5] and len(set(arrays.values())) == 4
    sweep.finish()
    assert sweep.classes() == {0: None, 1: "code error", 2: None, 3: None, 4: "blocked", 5: None, 6: None, 7: None}
    retried = {(n, failure) for n, event, failure in sweep.story() if event == "retried"}
    assert retried == {(6, "hang"), (7, "killed")}, sweep.story()
    assert set(sweep.counted()) == {0, 2, 3, 5, 6, 7}
    assert cluster.run("sacct", "-n", "-X", "-P", "-o", "State,ReqCPUS", "-j", submitted[1]) == "FAILED|2"


def test_killed_nodes_time_limits_cancelled_and_preempted_jobs(cluster: Any, tmp_path: Path) -> None:
    """All in one sweep: every job counts to its end, from a checkpoint where it could write one, and publishes once."""
    sweep = Sweep(tmp_path, cluster, partition="low", timeout_min=1.0, signal_delay_s=45)
    for number in range(4):
        sweep.add(number, steps=400 if number == 3 else 100)
    sweep.start()
    until(lambda: all(sweep.runs(number) for number in range(4)))
    cluster.run("scancel", sweep.task(0))
    node = cluster.run("squeue", "-h", "-j", sweep.task(1), "-o", "%N")
    cluster.crash(node)
    time.sleep(1)
    cluster.start(node)
    urgent = cluster.run("sbatch", "--parsable", "-p", "debug", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")
    until(lambda: cluster.run("sacct", "-n", "-X", "-P", "-j", urgent, "-o", "State") == "COMPLETED", every=0.1)
    sweep.finish()
    assert sweep.counted() == {0: 100, 1: 100, 2: 100, 3: 400}, sweep.story()
    assert sweep.classes() == dict.fromkeys(range(4)), sweep.story()
    continued = [n for n in range(4) if "from step 0" not in sweep.job(n).log.read_text().splitlines()[-1]]
    assert continued, (sweep.story(), {n: sweep.job(n).log.read_text() for n in range(4)})


def test_a_task_requeues_only_itself_although_the_last_one_has_the_arrays_number(cluster: Any, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, cluster)
    sweep.add(0, steps=150)
    sweep.add(1, steps=150)
    sweep.start()
    until(lambda: sweep.runs(0) and sweep.runs(1))
    log = sweep.job(1).log.resolve()
    cluster.run("scancel", "--signal=USR2", sweep.task(1))
    until(lambda: log.read_text().count("from step") == 2)
    cluster.run("scancel", sweep.task(1))
    sweep.finish()
    assert log.read_text().count("back into the queue") == 1, "a cancelled task does not requeue itself"
    assert sweep.job(0).log.read_text().count("from step") == 1, "nor does it requeue another one"
    assert sweep.counted() == {0: 150, 1: 150}
    assert [(n, failure) for n, event, failure in sweep.story() if event == "retried"] == [(1, "cancelled")]


def test_queued_jobs_of_an_earlier_record_are_followed_and_not_submitted_again(cluster: Any, tmp_path: Path) -> None:
    first, second = (Sweep(tmp_path, cluster, number) for number in (1, 2))
    for sweep in (first, second):
        sweep.add(0, steps=60)
    second.add(1)
    SlurmLauncher(
        read(first.jobs), first.store, first.settings, first.name, {}, PROGRAM
    ).submit()  # without a launcher that follows
    until(lambda: first.runs(0))
    second.start()
    second.finish()
    assert second.task(0) == first.task(0) and second.task(1) != first.task(0)
    assert second.counted() == {0: 60, 1: 1} and second.classes() == {0: None, 1: None}


def test_an_array_that_slurm_accepted_although_sbatch_failed_is_cancelled(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the second call of sbatch, which submits a job again, comes too late."""
    folder, numbers = tmp_path / "bin", tmp_path / "numbers"
    folder.mkdir()
    (folder / "sbatch").write_text(
        f"""#!/bin/sh
        {shutil.which("sbatch")} "$@" | tee -a {numbers}
        test $(wc -l < {numbers}) != 2 || {{ echo Socket timed out on send/recv operation >&2; exit 1; }}
        """
    )
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    sweep = Sweep(tmp_path, cluster)
    sweep.add(0, dies=True, steps=30)
    sweep.start()
    sweep.finish()
    arrays = [line.split()[-1] for line in numbers.read_text().splitlines()]
    assert len(arrays) == 3 and sweep.task(0) == f"{arrays[2]}_0"
    until(lambda: cluster.run("sacct", "-n", "-X", "-P", "-o", "State", "-j", arrays[1]).startswith("CANCELLED"))
    assert sweep.counted() == {0: 30} and sweep.classes() == {0: None}


def test_a_line_of_setup_that_fails_ends_the_job_with_itself_as_the_message(cluster: Any, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, cluster, setup=["true", "module load no-such-module"])
    sweep.add(0)
    sweep.add(1, needs=[0])
    sweep.start()
    sweep.finish()
    assert sweep.classes() == {0: "code error", 1: "blocked"} and sweep.counted() == {}
    message = event_log.last(sweep.jobs)[0]["message"]
    assert message.startswith("launch.setup failed: module load no-such-module (exit code ")


def test_an_outcome_that_appears_late_decides_the_class(cluster: Any, tmp_path: Path) -> None:
    """The outcome is moved out of sight while the job ends, and appears a few seconds later."""
    sweep = Sweep(tmp_path, cluster, fs_delay_s=60.0)
    sweep.add(0, raises=True)
    path = sweep.jobs / "0000.outcome.json"
    sweep.start()
    until(lambda: path.exists(), every=0.001)
    path.rename(tmp_path / "hidden")
    until(lambda: cluster.run("sacct", "-n", "-X", "-P", "-o", "State", "-j", sweep.task(0)) == "FAILED")
    time.sleep(3)
    assert sweep.classes() == {}, "it is awaited"
    (tmp_path / "hidden").rename(path)
    sweep.finish()
    assert event_log.last(sweep.jobs)[0]["message"] == "it raises"
