"""The log of the job that built a stage, among the real files of jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctt.execution.jobs import spec
from ctt.planning import Plan, compile_plan
from ctt.store import Store
from ctt.study import record
from ctt.sweep import compile_sweep


@pytest.fixture
def plan() -> Plan:
    return compile_plan(compile_sweep("demo", ["seed=0"]))


def frozen(plan: Plan, store: Store) -> Path:
    """The folder of the jobs of a new record."""
    folder = record.write(plan, store) / "jobs"
    for number, job in enumerate(plan.jobs):
        spec.freeze(job, store, folder, number)
    return folder


def test_every_stage_has_the_log_of_its_newest_job(tmp_path: Path, plan: Plan) -> None:
    store = Store(tmp_path)
    logs = record.JobLogs(store, "demo")
    key = plan.targets[0].key
    assert logs(key) is None
    first = frozen(plan, store)
    targets = {job.target: job.log for job in spec.read(first)}
    assert {stage: logs(stage) for stage in targets} == targets, "not of a later job that needs the stage"
    assert all(logs(stage) in targets.values() for stage in plan.stages)
    newer = frozen(plan, store)
    assert {logs(stage) for stage in targets} == {job.log for job in spec.read(newer)} and logs("0" * 64) is None


def test_unchanged_folders_are_not_listed_again(tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    folder = frozen(plan, store)
    logs = record.JobLogs(store, "demo")
    listed: list[str] = []
    glob = Path.glob

    def noted(path: Path, pattern: str) -> object:
        listed.append(str(path))
        return glob(path, pattern)

    monkeypatch.setattr(Path, "glob", noted)
    for stage in plan.stages:
        logs(stage)
    assert [path for path in listed if path.rstrip("/") == str(folder)] == [str(folder)]
