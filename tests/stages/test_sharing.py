"""Tiny real runs: sharing changes no number, and two concurrent sweeps build nothing twice and damage nothing."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ctt.planning import Plan, compile_plan
from ctt.planning.costs import TIMINGS
from ctt.report.tables.table import build as table_of
from ctt.report.writers import FORMATS, render
from ctt.stages.base import build
from ctt.store import Store
from ctt.study import loading, record
from ctt.sweep import compile_sweep
from tests.prepared import copy_artifacts
from tests.tiny import TINY, ctt, environment

POINTS = {"one": "[{ctt_inv_weight: 0.2}]", "two": "[{ctt_inv_weight: 0.2}, {ctt_inv_weight: 0.4}]"}
SETTINGS = [*TINY, "reader.enabled=false", "ctt_start_epoch=2", "seed=0"]


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two sweep files that overlap in the baseline, its shared prefix and one point."""
    folder = tmp_path_factory.mktemp("sweeps")
    for name, points in POINTS.items():
        (folder / f"{name}.yaml").write_text(f"name: {name}\npoints: {points}\n")
    return folder


def plan_of(sweeps: Path, name: str, *more: str) -> Plan:
    return compile_plan(compile_sweep(str(sweeps / f"{name}.yaml"), [*SETTINGS, *more]))


def run(plan: Plan, store: Store) -> None:
    """Records a sweep and builds it here, job by job, with the auxiliary stages."""
    record.write(plan, store)
    for job in plan.jobs:
        for stage in (job.target, *job.auxiliaries):
            build(stage, store)


def table(store: Store, name: str, form: str = "json") -> str:
    return render(table_of(loading.results(record.load(record.newest(store, name)), store)), form)


@pytest.fixture(scope="module")
def alone(tiny_data: Path, sweeps: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    """Each sweep in its own store; the data set is copied."""
    root, stores = tmp_path_factory.mktemp("alone"), {}
    for name in POINTS:
        stores[name] = Store.open(copy_artifacts(tiny_data, root / name))
        run(plan_of(sweeps, name), stores[name])
    return stores


def test_sharing_off_gives_the_same_table(alone: dict[str, Store], sweeps: Path, store_with_data: Path) -> None:
    unshared = plan_of(sweeps, "one", "sharing=off")
    assert not unshared.prefixes and len(plan_of(sweeps, "one").prefixes) == 1
    own = {key for key, stage in unshared.stages.items() if stage.kind != "data"}
    assert not own & set(plan_of(sweeps, "one").stages), "every run has its own keys"
    store = Store.open(store_with_data)
    run(unshared, store)
    for form in FORMATS:
        assert table(store, "one", form) == table(alone["one"], "one", form)
    rows = json.loads(table(store, "one"))["rows"]
    assert len(rows) == 2 and rows[0]["errors"] != rows[1]["errors"], "the losses had an effect"


def test_two_whole_sweeps_at_once_build_nothing_twice_and_damage_nothing(
    alone: dict[str, Store], sweeps: Path, empty_database: Path, tmp_path: Path
) -> None:
    """Two commands start at the same time on a store without artifacts: one builds the data set, and the other waits for it."""
    store = Store.open(shutil.copytree(empty_database, tmp_path / "store"))
    commands = [
        [sys.executable, "-m", "ctt", "sweep", str(sweeps / f"{name}.yaml"), *SETTINGS, "launch=local", "launch.jobs=2"]
        for name in POINTS
    ]
    processes = [
        subprocess.Popen(command, env=environment(store.root), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in commands
    ]
    for process in processes:
        text, _ = process.communicate(timeout=300)
        assert process.returncode == 0, text
    wanted = {key for name in POINTS for key in plan_of(sweeps, name).stages}
    built = [json.loads(line)["key"] for line in (store.root / TIMINGS).read_text().splitlines()]
    assert Counter(built) == dict.fromkeys(wanted, 1), "each stage once, by one of the two"
    assert set(store.keys()) == wanted and all(store.verify(key) == [] for key in wanted)
    assert not list(store.root.glob("quarantine/*")) and not list(store.root.glob("failures/*/*"))
    for name in POINTS:
        printed = (store.root / "sweeps" / name / "report" / "table.json").read_text(encoding="utf-8")
        assert printed == table(alone[name], name) == table(store, name)
    ctt(store.root, "sync")
    with sqlite3.connect(store.root / "mlflow.db") as database:
        tags = "select t.value from tags t join runs r using (run_uuid) where t.key = 'ctt.sweep' and r.name like 'seed=0 %'"
        shown = Counter(name for (name,) in database.execute(tags))
    assert shown == {"one": 2, "two": 3}, "MLflow has every run exactly once"
