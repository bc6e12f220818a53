"""A task of an array: the numbers of jobs on its command line, and what it does when it only waits."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctt import job as job_module
from ctt.launch import task
from ctt.launch.frozen import freeze
from ctt.launch.task import compressed, expanded
from ctt.plan import compile_plan
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
    before = {number: signal.getsignal(number) for number in task.SIGNALS}
    yield
    job_module._stop.clear()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_task_that_only_waits_leaves_its_node_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: None
) -> None:
    store = Store.open(tmp_path / "store")
    plan = compile_plan(compile_sweep("demo", [*TINY, "seed=0"]))
    job = freeze(plan.jobs[0], store, tmp_path, 4)
    asked: list[list[str]] = []

    def slurm(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(words)
        return subprocess.CompletedProcess(words, int(words[0] == "scontrol"), "RUNNING\n")  # 1: it need not be ended

    monkeypatch.setattr(task, "PATIENCE", 0.3)
    monkeypatch.setattr(subprocess, "run", slurm)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    with store.lease(job.stages[0]):  # another sweep is at work on the first of its stages
        assert task.main([str(tmp_path), "3-4"]) == 1
    assert asked[-1] == ["scontrol", "requeue", "12_1"]
    assert job.outcome() is None and store.failures(job.target) == [] and not list(store.keys())
