"""Ctrl-C, SIGTERM, a killed launcher and `ctt cancel`: jobs write their checkpoints and end, or are left running."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ctt.app.cancel import cancel_sweep
from ctt.core.processes import started
from ctt.execution.jobs import event_log, pid_files
from ctt.execution.jobs.failures import BEGINS
from ctt.execution.jobs.job_status import job_statuses
from ctt.execution.jobs.session import LAUNCHER
from ctt.store import Store
from tests.waiting import until

WAITS = str(Path(__file__).with_name("waits.py"))


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts the launcher and waits until its two jobs have begun."""
    started: list[subprocess.Popen[bytes]] = []

    def start(**more: Any) -> subprocess.Popen[bytes]:
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **more}
        process = subprocess.Popen([sys.executable, WAITS, str(tmp_path)], **given)
        started.append(process)
        until(lambda: {"begun0", "begun1"} <= {p.name for p in tmp_path.iterdir()})
        return process

    yield start
    (tmp_path / "go").touch()
    for process in started:
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()


def names(folder: Path, start: str) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.startswith(start)}


def classes(folder: Path) -> dict[int, str | None]:
    return {n: e["class"] for n, e in event_log.last(folder / "sweeps/waits/0001/jobs").items()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_terminal_an_interrupt_cancels(launched: Any, tmp_path: Path, number: int) -> None:
    process = launched()
    process.send_signal(number)
    assert process.wait(60) == 130
    assert names(tmp_path, "checkpoint") == {"checkpoint0", "checkpoint1"}
    assert classes(tmp_path) == {0: "cancelled", 1: "cancelled"}, "the third was never started"


def ctrl_c(launched: Any, tmp_path: Path, answer: str) -> None:
    ours, theirs = pty.openpty()
    process = launched(stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the jobs as well
    shown = b""
    while b"[C/l]" not in shown:
        shown += os.read(ours, 1000)
    assert not names(tmp_path, "checkpoint"), "the jobs continue until the question is answered"
    os.write(ours, answer.encode() + b"\n")
    assert process.wait(60) == 130
    os.close(ours)


def test_on_a_terminal_ctrl_c_asks_whether_to_cancel(launched: Any, tmp_path: Path) -> None:
    ctrl_c(launched, tmp_path, "c")
    assert names(tmp_path, "checkpoint") == {"checkpoint0", "checkpoint1"}


@pytest.fixture
def left(launched: Any, tmp_path: Path) -> int:
    """Two jobs that were left running; id of the process that follows them."""
    ctrl_c(launched, tmp_path, "l")
    return until(lambda: pid_files.running(tmp_path / "sweeps/waits/0001/jobs" / LAUNCHER))


def test_jobs_left_running_continue_and_another_process_starts_the_next(left: int, tmp_path: Path) -> None:
    time.sleep(0.5)
    assert not names(tmp_path, "checkpoint")
    jobs = tmp_path / "sweeps/waits/0001/jobs"
    states = [job.state for job in job_statuses(Store.open(tmp_path), jobs)]
    assert states == ["running", "running", "waiting"], "never more than before"
    (tmp_path / "go").touch()
    until(lambda: started(left) is None)
    assert names(tmp_path, "made") == {"made0", "made1", "made2"}
    assert classes(tmp_path) == dict.fromkeys(range(3))
    assert [e["number"] for e in event_log.read(jobs) if e["event"] == "started"] == [0, 1, 2]
    assert not list(jobs.glob("*.pid")) and not (tmp_path / "sweeps/waits/detached.log").read_text()


def test_a_killed_job_is_restarted_by_the_relauncher_and_ends_with_it(left: int, tmp_path: Path) -> None:
    job = pid_files.running(tmp_path / "sweeps/waits/0001/jobs/0000.pid")
    assert job is not None
    (tmp_path / "begun0").unlink()
    os.kill(job, signal.SIGKILL)
    until(lambda: (tmp_path / "begun0").exists())
    assert (tmp_path / "sweeps/waits/0001/jobs/0000.log").read_text().count(BEGINS) == 2
    os.kill(left, signal.SIGKILL)
    until(lambda: (tmp_path / "checkpoint0").exists(), seconds=30)
    assert names(tmp_path, "checkpoint") == {"checkpoint0"}, "the relauncher started only this one"


@pytest.mark.parametrize("alone", [False, True])
def test_jobs_left_running_can_be_cancelled(left: int, tmp_path: Path, alone: bool) -> None:
    if alone:
        os.kill(left, signal.SIGKILL)
        until(lambda: started(left) is None)
    assert cancel_sweep(Store.open(tmp_path), "waits", Console()) == 0
    assert names(tmp_path, "checkpoint") == {"checkpoint0", "checkpoint1"}
    assert names(tmp_path, "begun") == {"begun0", "begun1"}
    if not alone:
        assert classes(tmp_path) == {0: "cancelled", 1: "cancelled"}


def test_jobs_of_a_killed_launcher_write_their_checkpoints(launched: Any, tmp_path: Path) -> None:
    launched().kill()
    until(lambda: names(tmp_path, "checkpoint") == {"checkpoint0", "checkpoint1"})


def test_cancel_ends_launcher_and_jobs(launched: Any, tmp_path: Path) -> None:
    process = launched()
    assert cancel_sweep(Store.open(tmp_path), "waits", Console()) == 0
    assert process.wait(10) == 0
    assert names(tmp_path, "checkpoint") == {"checkpoint0", "checkpoint1"}
    assert classes(tmp_path) == {0: "cancelled", 1: "cancelled"}
