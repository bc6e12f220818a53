"""Jobs that run for an earlier record of the sweep: they are shown, counted, and cancelled with the others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ctt.app import logs
from ctt.app.cancel import cancel_sweep
from ctt.core.resources import LaunchSettings
from ctt.execution.jobs import event_log, job_status, pid_files, spec
from ctt.execution.jobs.session import LAUNCHER
from ctt.execution.local.local_launcher import LocalLauncher, Programs
from ctt.execution.slurm import commands
from ctt.execution.slurm.commands import QueueEntry
from ctt.store import Store


def recorded(store: Store, number: int, wanted: Sequence[int]) -> Path:
    """The `jobs` folder of a record of sweep "x" with jobs for the targets `wanted`."""
    folder = store.root / "sweeps" / "x" / f"{number:04d}" / "jobs"
    folder.mkdir(parents=True)
    (folder.parent / "record.json").write_text("{}")
    for index, target in enumerate(wanted):
        key = f"{target:064x}"
        content = dict(label=f"job {target}", target=key, kind="vqa", needs=[], stages=[key], wanted=[key])
        (folder / f"{index:04d}.json").write_text(json.dumps(content))
    return folder


def record_event(folder: Path, event: str, number: int, task: str | None, **more: Any) -> None:
    job = spec.read(folder)[number]
    event_log.append(folder, number, job.label, job.target, event, job_id=task, **more)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


@pytest.fixture
def process(store: Store) -> Iterator[subprocess.Popen[bytes]]:
    """Job 1 of the first record runs; a launcher of the second one waits for it."""
    first, second = recorded(store, 1, [0, 1]), recorded(store, 2, [1])
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    pid_files.write_pid_file_of(first / "0001.pid", started.pid)
    record_event(first, "started", 1, str(started.pid))
    (first / "0001.log").write_text("at work")
    pid_files.write_pid_file(second / LAUNCHER, "-")
    yield started
    started.kill()
    started.wait()


def test_a_job_of_an_earlier_record_is_shown(store: Store, process: subprocess.Popen[bytes]) -> None:
    [job] = job_status.job_statuses(store, store.root / "sweeps/x/0002/jobs")
    assert (job.number, job.state, job.job_id) == (0, "running", str(process.pid))
    assert logs.find_job(store, "job 1")[1].log.read_text() == "at work"
    process.kill()
    process.wait()
    [job] = job_status.job_statuses(store, store.root / "sweeps/x/0002/jobs")
    assert job.state == "waiting" and logs.find_job(store, "job 1")[1].path.parts[-3] == "0002"


def test_it_counts_towards_the_limit_of_jobs(store: Store, process: subprocess.Popen[bytes]) -> None:
    third = recorded(store, 3, [2, 3])
    settings = LaunchSettings(kind="local", jobs=2, devices=[], leases=str(store.root / "leases"))
    local = LocalLauncher(spec.read(third), store, settings, programs=Programs(lambda job: ["sleep", "60"]))
    try:
        local._start_ready()
        assert [one.job.number for one in local.running] == [0]
    finally:
        local.cancel()


def test_it_is_cancelled(store: Store, process: subprocess.Popen[bytes]) -> None:
    (store.root / "sweeps/x/0002/jobs" / LAUNCHER).unlink()
    assert cancel_sweep(store, "x", Console()) == 0
    assert process.wait(10) < 0
    assert all((store.root / f"sweeps/x/000{n}/jobs" / event_log.CANCELLED).exists() for n in (1, 2))


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, str]]:
    """The sweep's jobs in SLURM's queue, which scancel empties."""
    tasks: dict[str, tuple[str, str]] = {}

    def ask(command: Sequence[str]) -> str:
        assert command[0] == "scancel"
        for task in command[1:]:
            del tasks[task]
        return ""

    monkeypatch.setattr(commands, "queued", lambda name: dict(tasks))
    monkeypatch.setattr(commands, "ask", ask)
    return tasks


def classes(folder: Path) -> dict[int, Any]:
    return {n: (e["event"], e["class"], e["message"]) for n, e in event_log.last(folder).items()}


def test_all_jobs_of_the_sweep_in_the_queue_are_cancelled(store: Store, queue: dict[str, tuple[str, str]]) -> None:
    first, second = recorded(store, 1, [0, 1]), recorded(store, 2, [0])
    for folder, number, task in ((first, 0, "5_0"), (first, 1, "5_1"), (second, 0, "6_0")):
        record_event(folder, "submitted", number, task)
    queue |= {
        "5_0": QueueEntry("RUNNING", "n"),
        "5_1": QueueEntry("PENDING", ""),
        "6_0": QueueEntry("PENDING", ""),
        "7_0": QueueEntry("PENDING", ""),
    }
    assert cancel_sweep(store, "x", Console()) == 0
    assert queue == {}, "also those that no record names"
    cancelled = ("ended", "cancelled", "")
    assert classes(first) == {0: cancelled, 1: cancelled} and classes(second) == {0: cancelled}
    assert (first / event_log.CANCELLED).exists(), "a launcher of the first record submits nothing again"


def test_a_job_that_had_failed_before_keeps_its_reason(store: Store, queue: dict[str, tuple[str, str]]) -> None:
    folder = recorded(store, 1, [0, 1, 2])
    for number in range(3):
        record_event(folder, "submitted", number, f"5_{number}")
    outcome = {"failure": "code error", "message": "RuntimeError: x"}
    (folder / "0000.outcome.json").write_text(json.dumps(outcome))
    queue["5_1"] = QueueEntry("RUNNING", "n")
    assert cancel_sweep(store, "x", Console()) == 0
    lost = ("submitted", None, "")
    assert classes(folder) == {0: ("ended", *outcome.values()), 1: ("ended", "cancelled", ""), 2: lost}


def test_no_answer_of_slurm_is_not_an_empty_queue(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "queued", lambda name: None)
    folder = recorded(store, 1, [0])
    record_event(folder, "submitted", 0, "5_0")
    assert cancel_sweep(store, "x", Console()) == 1
    record_event(folder, "ended", 0, "5_0")
    assert cancel_sweep(store, "x", Console()) == 0, "no job is recorded as submitted"


def test_an_array_that_slurm_accepted_without_an_answer_is_cancelled(store: Store, queue: dict[str, tuple[str, str]]) -> None:
    folder = recorded(store, 1, [0])
    (folder.parent / "slurm").mkdir()
    queue["5_0"] = QueueEntry("PENDING", "")
    assert cancel_sweep(store, "x", Console()) == 0 and not queue
