"""Real runs, tiny: sharing changes no number, and two sweeps at once build nothing twice and damage nothing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ctt.plan import Plan, compile_plan
from ctt.recorded import record, show
from ctt.report.render import render
from ctt.report.table import build as table_of
from ctt.stages.base import Stage, build
from ctt.store import Store
from ctt.sweep import compile_sweep
from tests.tiny import TINY, environment

WEIGHTS = {"one": "ctt_inv_weight=0.2", "two": "ctt_inv_weight=0.2,0.4"}
ALONE = ["diagnostics.enabled=false", "reader.enabled=false"]
START = [*ALONE, "ctt_suf_weight=0", "ctt_start_epoch=2", "seed=0"]
SMALLER = ["world_model.windows.per_epoch=128", "world_model.windows.validation=64", "aloe.shares=[0.3,0.1,0.1,0.1]"]


def plan_of(name: str, *more: str) -> Plan:
    return compile_plan(compile_sweep(None, [*TINY, *SMALLER, WEIGHTS[name], *START, *more, f"name={name}"]))


def run(plan: Plan, store: Store, log: Path | None = None) -> None:
    """Records a sweep and builds what is missing of it, job by job; `log` gets the keys that were built here."""

    def event(what: str, stage: Stage, detail: str) -> None:
        if log is not None and what == "built":
            with open(log, "a") as f:
                f.write(stage.key + "\n")

    record.write(plan, store)
    for job in plan.jobs:
        build(job.target, store, on_event=event)


def table(store: Store, name: str) -> str:
    return render(table_of(show.results(record.load(record.newest(store, name)), store)), "json")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store in which both sweeps have run, one after the other."""
    store = Store.open(tmp_path_factory.mktemp("shared") / "store")
    for name in WEIGHTS:
        run(plan_of(name), store)
    return store


def with_data(store: Store, root: Path) -> Store:
    """Another store that has the data set alone."""
    (data,) = [s for s in plan_of("one").stages.values() if s.kind == "data"]
    other = Store.open(root)
    shutil.copytree(store.path(data.key), other.path(data.key))
    return other


def test_sharing_off_gives_the_same_table(shared: Store, tmp_path: Path) -> None:
    alone = plan_of("one", "sharing=off")
    assert not alone.trunks and len(plan_of("one").trunks) == 1
    own = {key for key, stage in alone.stages.items() if stage.kind != "data"}
    assert not own & set(plan_of("one").stages), "every run has keys of its own"
    store = with_data(shared, tmp_path / "alone")
    run(alone, store)
    assert table(store, "one") == table(shared, "one")
    rows = json.loads(table(store, "one"))["rows"]
    assert len(rows) == 2 and rows[0]["errors"] != rows[1]["errors"], "the losses did something"


def test_two_sweeps_at_once_build_nothing_twice_and_damage_nothing(shared: Store, tmp_path: Path) -> None:
    """Two processes, two plans that overlap in trunk, baseline and one point."""
    store = with_data(shared, tmp_path / "store")
    logs = {name: tmp_path / f"{name}.log" for name in WEIGHTS}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.test_sharing", name, str(store.root), str(log)],
            env=environment(store.root),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, log in logs.items()
    ]
    for process in processes:
        text, _ = process.communicate(timeout=300)
        assert process.returncode == 0, text
    built = [key for log in logs.values() if log.exists() for key in log.read_text().split()]
    wanted = {key for name in WEIGHTS for key, s in plan_of(name).stages.items() if s.kind != "data"}
    assert sorted(built) == sorted(wanted), "each stage once, by one of the two"
    assert all(store.verify(key) == [] for key in wanted)
    assert not list(store.root.glob("quarantine/*")) and not list(store.root.glob("failures/*/*"))
    for name in WEIGHTS:
        assert table(store, name) == table(shared, name)


if __name__ == "__main__":
    run(plan_of(sys.argv[1]), Store.open(sys.argv[2]), Path(sys.argv[3]))
