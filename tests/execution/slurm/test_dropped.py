"""Jobs that SLURM drops from its queue because a job they depend on failed, whatever the accounting records of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ctt.core.resources import LaunchSettings
from ctt.execution.jobs import event_log
from ctt.execution.jobs.spec import read
from ctt.execution.slurm import commands, slurm_launcher
from ctt.execution.slurm.queue_tasks import Task
from ctt.execution.slurm.sacct import Account
from ctt.execution.slurm.slurm_launcher import SlurmLauncher
from ctt.store import Store


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmLauncher:
    """Follows job 0 and job 1, which needs it; both have left the queue."""
    folder = tmp_path / "0001" / "jobs"
    folder.mkdir(parents=True)
    for number, needs in enumerate(([], [f"{0:064x}"])):
        key = f"{number:064x}"
        content = dict(label=f"job {number}", target=key, kind="vqa", needs=needs, stages=[key], wanted=[key])
        (folder / f"{number:04d}.json").write_text(json.dumps(content))
    made = SlurmLauncher(read(folder), Store(tmp_path / "store"), LaunchSettings(kind="slurm", fs_delay_s=0), "x", {})
    for job in made.jobs:
        made.attempts.begin(job)
        made.alive[job.number] = Task(f"{7 + job.number}_0", waits=job.number == 1)
    made.waiting = []
    monkeypatch.setattr(commands, "queued", lambda name: {})
    return made


def story(slurm: SlurmLauncher) -> list[tuple[int, str, str | None]]:
    return [(e["number"], e["event"], e["class"]) for e in event_log.read(slurm.folder)]


def raised(slurm: SlurmLauncher) -> None:
    slurm.alive[0].progressed = 0.0
    slurm.jobs[0].outcome_file.write_text(json.dumps({"failure": "code error", "message": "RuntimeError: x"}))


@pytest.mark.parametrize(
    "account",
    [
        None,  # the accounting lags behind, or there is none
        Account("8_0", "CANCELLED", reason="Dependency"),
        Account("8_0", "CANCELLED"),
        Account("8_0", "CANCELLED", reason="None"),
    ],
)
def test_a_dropped_job_is_blocked_and_not_retried(
    slurm: SlurmLauncher, monkeypatch: pytest.MonkeyPatch, account: Account | None
) -> None:
    monkeypatch.setattr(commands, "accounted", lambda tasks: {"8_0": account} if account else {})
    raised(slurm)
    slurm.poll()
    slurm.poll()
    slurm._submit()
    assert story(slurm) == [(0, "ended", "code error"), (1, "ended", "blocked")]
    assert not slurm.alive and not slurm.waiting


def test_a_job_with_a_log_had_begun(slurm: SlurmLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "accounted", lambda tasks: {})
    monkeypatch.setattr(slurm_launcher, "UNKNOWN", 0.0)
    raised(slurm)
    slurm.jobs[1].log.write_text("from step 3\n")
    slurm.poll()
    slurm.poll()
    assert story(slurm) == [(0, "ended", "code error"), (1, "retried", "killed")]


def test_a_job_cancelled_while_the_job_it_needs_runs_is_retried(slurm: SlurmLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "queued", lambda name: {"7_0": commands.QueueEntry("RUNNING", "node1")})
    monkeypatch.setattr(commands, "accounted", lambda tasks: {"8_0": Account("8_0", "CANCELLED")})
    slurm.poll()
    slurm.poll()
    assert story(slurm) == [(0, "started", None), (1, "retried", "cancelled")]
