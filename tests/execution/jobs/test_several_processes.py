"""A job of several processes fails with the class, the words and the log of the process in which it failed."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from ctt.core.atomic_files import write_json
from ctt.core.process_group import Parted, ProcessGroup
from ctt.core.resources import LaunchSettings
from ctt.execution.jobs import event_log, job_process
from ctt.execution.jobs.spec import JobSpec, freeze, read
from ctt.execution.slurm import arrays
from ctt.execution.slurm.accounting import Account
from ctt.execution.slurm.slurm_launcher import SlurmLauncher, Task
from ctt.plan import compile_plan
from ctt.store import Store
from ctt.sweep import compile_sweep
from tests.tiny import TINY

GONE = {"failure": "killed", "message": "Parted: another process of this job is gone"}


@pytest.fixture
def job(tmp_path: Path) -> JobSpec:
    """Task 12_3 of SLURM, whose three processes have printed something."""
    plan = compile_plan(compile_sweep("demo", [*TINY, "ctt_start_epoch=1", "seed=0"]))
    folder = tmp_path / "0001" / "jobs"
    folder.mkdir(parents=True)
    freeze(next(job for job in plan.jobs if job.prefix), Store.open(tmp_path / "store"), folder, 7)
    [job] = read(folder)
    for rank in (0, 1, 2, 10):
        (tmp_path / f"12_3_{rank}_log.out").write_text(f"process {rank}\n")
    (tmp_path / "12_30_0_log.out").write_text("another task\n")
    job.log.symlink_to(tmp_path / "12_3_0_log.out")
    return job


def ended(job: JobSpec, store: Store, account: Account | None) -> dict[str, object]:
    """What the launcher tells of the end of an attempt."""
    slurm = SlurmLauncher([job], store, LaunchSettings(kind="slurm"), "name", {})
    slurm.attempts.begin(job)
    slurm.alive[job.number] = Task("12_3", "RUNNING", moved=0.0)
    slurm._ended(job, account)
    return event_log.last(job.path.parent)[job.number]


def test_the_word_of_the_one_that_failed_counts(job: JobSpec, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    write_json(job.outcome_file, GONE)
    world = ProcessGroup(rank=1, size=2)
    failing = mock.patch("ctt.stages.base.assist", side_effect=MemoryError("of this node"))
    with (
        mock.patch.object(ProcessGroup, "connect"),
        mock.patch.object(job_process, "of_environment", lambda: world),
        failing,
    ):
        assert job_process.run(job.path)["failure"] == "out of memory", "its exit code is not 0"
    told = ended(job, store, Account("12_3", "FAILED", 1, nodes="node[1-2]"))
    assert (told["event"], told["class"]) == ("ended", "out of memory") and "process 1 of 2" in str(told["message"])
    assert Path(str(told["log"])).name == "12_3_1_log.out"
    [failure] = store.failures(job.target)
    assert failure["failure"] == "out of memory" and failure["log"] == "process 1"
    job.forget_outcome()
    assert job.outcome() is None


def test_one_that_only_lost_the_first_says_nothing(job: JobSpec) -> None:
    write_json(job.outcome_file, {"failure": "diverged", "message": "nan"})
    world = ProcessGroup(rank=1, size=2)
    gone = mock.patch("ctt.stages.base.assist", side_effect=Parted("gone"))
    with (
        mock.patch.object(ProcessGroup, "connect"),
        mock.patch.object(job_process, "of_environment", lambda: world),
        gone,
    ):
        assert job_process.run(job.path)["failure"] is None
    outcome = job.outcome()
    assert outcome is not None and outcome["failure"] == "diverged"
    assert not list(job.path.parent.glob("*.outcome.1.json"))


def test_where_none_could_say_it_all_logs_are_read(job: JobSpec, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    logs = arrays.logs_beside(job.log)
    assert [log.read_text() for log in logs] == [f"process {rank}\n" for rank in (0, 1, 2, 10)]
    logs[0].write_text("slurmstepd-node1: error: *** STEP 12.0 ON node1 CANCELLED AT 2026-11-22T16:50:49 ***\n")
    logs[2].write_text("slurmstepd: error: Detected 1 oom_kill event in StepId=12.0.\n")
    write_json(job.outcome_file, GONE)
    told = ended(job, store, Account("12_3", "FAILED", 1, nodes="node[1-2]"))
    assert (told["class"], told["log"]) == ("out of memory", str(logs[2]))
    logs[2].write_text("nothing of note\n")
    told = ended(job, store, Account("12_3", "FAILED", 1, nodes="node[1-2]"))
    assert (told["event"], told["class"], told["log"]) == ("retried", "killed", str(logs[0])), "the others were"
    logs[0].write_text("nothing of note\n")
    told = ended(job, store, Account("12_3", "NODE_FAIL", nodes="node[1-2]"))
    assert (told["event"], told["class"]) == ("retried", "node failure"), "whatever its processes made of it"
    told = ended(job, store, Account("12_3", "FAILED", 1, nodes="node[1-2]"))
    assert (told["event"], told["class"]) == ("retried", "killed"), "not an error of the code"
