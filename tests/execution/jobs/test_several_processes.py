"""A job of several processes fails with the class, message and log of the process that failed."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from ctt.core.atomic_files import write_json
from ctt.core.process_group import ProcessGroup, ProcessLost
from ctt.core.resources import LaunchSettings
from ctt.execution.jobs import event_log, job_process
from ctt.execution.jobs.spec import JobSpec, freeze, read
from ctt.execution.slurm import arrays
from ctt.execution.slurm.sacct import Account
from ctt.execution.slurm.slurm_launcher import SlurmLauncher, Task
from ctt.planning import compile_plan
from ctt.store import Store
from ctt.sweep import compile_sweep
from tests.tiny import TINY

GONE = {"failure": "killed", "message": "ProcessLost: another process of this job is gone"}


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
    """The event that the launcher records at the end of an attempt."""
    slurm = SlurmLauncher([job], store, LaunchSettings(kind="slurm"), "name", {})
    slurm.attempts.begin(job)
    slurm.alive[job.number] = Task("12_3", "RUNNING", progressed=0.0)
    slurm._ended(job, account)
    return event_log.last(job.path.parent)[job.number]


def test_the_outcome_of_the_process_that_failed_counts(job: JobSpec, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    write_json(job.outcome_file, GONE)
    group = ProcessGroup(rank=1, size=2)
    failing = mock.patch("ctt.stages.base.assist", side_effect=MemoryError("of this node"))
    with (
        mock.patch.object(ProcessGroup, "connect"),
        mock.patch.object(job_process, "of_environment", lambda: group),
        failing,
    ):
        assert job_process.run(job.path)["failure"] == "out of memory", "its exit code is not 0"
    event = ended(job, store, Account("12_3", "FAILED", 1, nodes="node[1-2]"))
    assert (event["event"], event["class"]) == ("ended", "out of memory") and "process 1 of 2" in str(event["message"])
    assert Path(str(event["log"])).name == "12_3_1_log.out"
    [failure] = store.failures(job.target)
    assert failure["failure"] == "out of memory" and failure["log"] == "process 1"
    job.remove_outcome()
    assert job.outcome() is None


def test_a_process_that_only_lost_the_first_records_nothing(job: JobSpec) -> None:
    write_json(job.outcome_file, {"failure": "diverged", "message": "nan"})
    group = ProcessGroup(rank=1, size=2)
    gone = mock.patch("ctt.stages.base.assist", side_effect=ProcessLost("gone"))
    with (
        mock.patch.object(ProcessGroup, "connect"),
        mock.patch.object(job_process, "of_environment", lambda: group),
        gone,
    ):
        assert job_process.run(job.path)["failure"] is None
    outcome = job.outcome()
    assert outcome is not None and outcome["failure"] == "diverged"
    assert not list(job.path.parent.glob("*.outcome.1.json"))


def test_without_a_recorded_outcome_all_logs_are_read(job: JobSpec, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    logs = arrays.task_logs(job.log)
    assert [log.read_text() for log in logs] == [f"process {rank}\n" for rank in (0, 1, 2, 10)]
    logs[0].write_text("slurmstepd-node1: error: *** STEP 12.0 ON node1 CANCELLED AT 2026-11-22T16:50:49 ***\n")
    logs[2].write_text("slurmstepd: error: Detected 1 oom_kill event in StepId=12.0.\n")
    write_json(job.outcome_file, GONE)
    event = ended(job, store, Account("12_3", "FAILED", 1, nodes="node[1-2]"))
    assert (event["class"], event["log"]) == ("out of memory", str(logs[2]))
    logs[2].write_text("nothing of note\n")
    event = ended(job, store, Account("12_3", "FAILED", 1, nodes="node[1-2]"))
    assert (event["event"], event["class"], event["log"]) == ("retried", "killed", str(logs[0])), "the others were"
    logs[0].write_text("nothing of note\n")
    event = ended(job, store, Account("12_3", "NODE_FAIL", nodes="node[1-2]"))
    assert (event["event"], event["class"]) == ("retried", "node failure"), "the accounting comes first"
    event = ended(job, store, Account("12_3", "FAILED", 1, nodes="node[1-2]"))
    assert (event["event"], event["class"]) == ("retried", "killed"), "not an error of the code"
