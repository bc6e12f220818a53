"""A task of an array: the job numbers on its command line, and when it requeues itself."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctt.core import build_context as job_module
from ctt.execution.jobs import job_process
from ctt.execution.jobs.failures import BEGINS
from ctt.execution.jobs.spec import freeze
from ctt.execution.slurm import task_process
from ctt.execution.slurm.task_process import compressed, expanded
from ctt.planning import compile_plan
from ctt.store import Store
from ctt.sweep import compile_sweep
from tests.tiny import TINY


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=50))
def test_numbers_survive_their_short_form_in_order(numbers: list[int]) -> None:
    assert expanded(compressed(numbers)) == numbers


def test_ranges_are_short() -> None:
    assert compressed([0, 1, 2, 7, 9, 10]) == "0-2,7,9-10"
    assert len(compressed(list(range(1000)))) < 8


@pytest.fixture
def signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in task_process.SIGNALS}
    yield
    job_module._stop.clear()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_task_that_only_waits_requeues_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: None) -> None:
    store = Store.open(tmp_path / "store")
    plan = compile_plan(compile_sweep("demo", [*TINY, "seed=0"]))
    job = freeze(plan.jobs[0], store, tmp_path, 4)
    calls: list[list[str]] = []

    def slurm(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(
            command, int(command[0] == "scontrol"), "ctt-state:RUNNING\n"
        )  # 1: SLURM sends no signal

    monkeypatch.setattr(task_process, "PATIENCE", 0.3)
    monkeypatch.setattr(task_process, "UNANSWERED", 0.0)
    monkeypatch.setattr(subprocess, "run", slurm)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    with store.lease(job.stages[0]):  # another sweep builds the first of its stages
        assert task_process.main([str(tmp_path), "3-4"]) == 1
    assert calls[-1] == ["scontrol", "requeue", "12_1"]
    assert job.outcome() is None and store.failures(job.target) == [] and not list(store.keys())


class Controller:
    """SLURM's controller. It does not answer the first `deaf` calls; then the job is in `state` and can be requeued."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, deaf: int, state: str) -> None:
        self.deaf, self.state, self.requeued = deaf, state, 0
        monkeypatch.setattr(subprocess, "run", self.run)
        monkeypatch.setattr(task_process.time, "sleep", lambda seconds: None)
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")

    def run(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.deaf -= 1
        if self.deaf == 0:
            raise subprocess.TimeoutExpired(command, 60)
        if self.deaf > 0:
            return subprocess.CompletedProcess(command, 1, "", "Unable to contact slurm controller")
        if command[0] == "scontrol":
            self.requeued += 1
            os.kill(os.getpid(), signal.SIGTERM)  # as SLURM does then
        return subprocess.CompletedProcess(command, 0, f"RUNNING A NEW KERNEL\nREAD\nctt-state:{self.state}\nBYE\n")


@pytest.mark.parametrize(("deaf", "state", "requeued"), [(4, "RUNNING", 1), (4, "COMPLETING", 0), (0, "CANCELLED", 0)])
def test_calls_are_retried_when_the_controller_does_not_answer(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    signals: None,
    deaf: int,
    state: str,
    requeued: int,
) -> None:
    """A task that SLURM stops without having cancelled it is requeued once SLURM answers; no other is."""
    (tmp_path / "0000.json").write_text(json.dumps({"store": str(tmp_path / "store"), "stages": ["0" * 64]}))

    def interrupted(path: Path, on_event: object) -> dict[str, str]:
        os.kill(os.getpid(), signal.SIGUSR2)
        return {"failure": "interrupted", "message": ""}

    monkeypatch.setattr(task_process.job_process, "run", interrupted)
    controller = Controller(monkeypatch, deaf, state)
    assert task_process.main([str(tmp_path), "0"]) == 1
    assert controller.requeued == requeued
    assert capsys.readouterr().out.startswith(BEGINS), "it separates the attempts in the log"


def test_the_outcome_of_an_earlier_attempt_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(tmp_path / "store")
    plan = compile_plan(compile_sweep("demo", [*TINY, "seed=0"]))
    job = freeze(plan.jobs[0], store, tmp_path, 4)
    job.outcome_file.write_text('{"failure": "interrupted", "message": "stopped by a signal"}')

    def gone(*_: object) -> None:
        raise SystemError("killed")

    monkeypatch.setattr(job_process, "_build", gone)
    with pytest.raises(SystemError):
        job_process.run(job.path)
    assert job.outcome() is None


def test_a_signal_after_the_end_does_not_make_a_success_a_failure(tmp_path: Path) -> None:
    """SLURM may send its signal while the interpreter exits, when the target is already in the store."""
    code = f"""
import os, signal, sys
from ctt.execution.slurm import task_process as task

class Late:
    def __del__(self, kill=os.kill, process=os.getpid(), number=signal.SIGUSR2):
        kill(process, number)

task.job_process.run = lambda path, on_event: {{"failure": None}}
sys.kept = Late()  # deleted when Python's handlers are
sys.exit(task.main([{str(tmp_path)!r}, "0"]))
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "SLURM_ARRAY_TASK_ID": "0"})
    assert done.returncode == 0
