"""gc keeps what recorded sweeps reach; show finds artifacts by key and by name. The artifacts are made up."""

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from ctt.app.gc import collect, garbage, survey
from ctt.app.show import find_artifact, show_artifact
from ctt.app.status import print_status
from ctt.core.errors import StoreError, UsageError
from ctt.core.units import duration
from ctt.planning import Plan, compile_plan
from ctt.stages.base import Stage
from ctt.store import Store
from ctt.study import record
from ctt.sweep import compile_sweep

PROVENANCE = {
    "began": 0.0,
    "ended": 1.0,
    "seconds": 41.0,
    "host": "h",
    "numerics": "n",
    "git": "g",
    "python": "3",
    "packages": {"torch": "2"},
}


def put(store: Store, stage: Stage) -> None:
    """Publishes a made-up artifact under the stage's key."""
    with store.lease(stage.key) as lease:
        folder = store.work_folder(stage.key)
        (folder / "metrics.json").write_text(json.dumps({"number": 1}))
        store.publish(stage.key, folder, lease, {**stage.describe(), "provenance": PROVENANCE})


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Store, Plan]:
    store = Store.open(tmp_path / "store")
    plan = compile_plan(compile_sweep("demo", ["seed=0"]))
    for stage in plan.stages.values():
        put(store, stage)
    return store, plan


def quiet() -> Console:
    return Console(quiet=True)


def test_what_a_recorded_sweep_reaches_stays(filled) -> None:
    store, plan = filled
    record.write(plan, store)
    other = compile_plan(compile_sweep("demo", ["seed=1"]))
    for stage in other.stages.values():
        if not store.has(stage.key):
            put(store, stage)
    gone = {item.key for item in garbage(store, survey(store), rollouts=False)}
    assert gone == set(other.stages) - set(plan.stages)
    assert collect(store, rollouts=False, yes=True, console=quiet()) == 0
    assert set(store.keys()) == set(plan.stages)


def test_rollouts_of_finished_runs_are_removed_only_with_the_option(filled) -> None:
    store, plan = filled
    record.write(plan, store)
    assert garbage(store, survey(store), rollouts=False) == []
    store.remove(plan.targets[0].key)
    going = garbage(store, survey(store), rollouts=True)
    assert [item.key for item in going] == [plan.targets[1].rollout.key], "the unfinished run still needs its rollout"


def test_nothing_is_removed_without_confirmation(filled) -> None:
    store, plan = filled
    assert collect(store, rollouts=False, yes=False, console=quiet()) == 1
    assert set(store.keys()) == set(plan.stages)


def test_a_leased_key_is_never_touched(filled) -> None:
    store, plan = filled
    busy = plan.targets[0].key
    with store.lease(busy):
        collect(store, rollouts=False, yes=True, console=quiet())
    assert set(store.keys()) == {busy}


def test_artifacts_are_found_by_key_prefix_and_run(filled) -> None:
    store, plan = filled
    record.write(plan, store)
    key = plan.targets[0].key
    assert (
        find_artifact(store, key)
        == find_artifact(store, key[:10])
        == find_artifact(store, "demo/baseline seed=0")
        == find_artifact(store, "baseline seed=0")
        == key
    )
    for wrong in ("ffffffffff", "nothing seed=0"):
        with pytest.raises(UsageError, match="artifacts of|names no runs"):
            find_artifact(store, wrong)
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    assert show_artifact(store, key[:10], False, console) == 0
    text = console.export_text()
    assert plan.targets[0].rollout.key in text and "trajectory" in text and "torch 2" in text
    assert f"in {duration(1)}, after {duration(40)} of interrupted work, on h" in text


def test_a_damaged_record_does_not_hide_other_sweeps(filled, capsys: pytest.CaptureFixture[str]) -> None:
    store, plan = filled
    record.write(plan, store)
    damaged = record.write(compile_plan(compile_sweep("weights", ["seed=0"])), store) / "record.json"
    damaged.write_text("{")
    assert find_artifact(store, "demo/baseline seed=0") == plan.targets[0].key
    with pytest.raises(UsageError, match="weights/0001/record.json is not a sweep's record"):
        find_artifact(store, "weights/baseline seed=0")
    assert print_status(store, None, as_json=False) == 1
    seen = capsys.readouterr()
    assert "demo" in seen.out and "2/2 runs done" in seen.out and str(damaged) in seen.err
    with pytest.raises(StoreError, match="record.json"):
        survey(store)  # what it reaches is unknown, so nothing may be removed


def test_a_record_whose_points_had_one_name_has_names_of_their_own(filled) -> None:
    """As ctt 0.1 wrote values that are alike in six digits."""
    store, _ = filled
    plan = compile_plan(compile_sweep(None, ["data=mini", "ctt_inv_weight=0.1000001,0.1000002,0.1000003"]))
    path = record.write(plan, store) / "record.json"
    content = json.loads(path.read_text())
    del content["seal"]
    for point in content["points"][1:]:
        point["label"] = "inv_weight=0.1"
    path.write_text(json.dumps(content))
    points = record.load(path.parent).sweep.points
    assert [point.label for point in points] == [point.label for point in plan.sweep.points]
    assert len({point.label for point in points}) == 4


def test_a_record_of_other_values_than_were_written_is_refused(filled) -> None:
    store, plan = filled
    path = record.write(plan, store) / "record.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "seeds": [7]}))
    with pytest.raises(StoreError, match="does not match its seal.*start the sweep again"):
        record.load(path.parent)


def test_an_unknown_sweep_is_refused_with_the_nearest_name_and_leaves_no_files(filled) -> None:
    store, plan = filled
    record.write(plan, store)
    for name in ("demmo", "demmo.yaml", "./demmo.yaml"):
        with pytest.raises(UsageError, match="did you mean demo"):
            record.newest(store, name)
    with pytest.raises(UsageError, match="recorded there: demo.*start it with `ctt sweep weights`"):
        record.newest(store, "weights")
    assert [path.name for path in (store.root / "sweeps").iterdir()] == ["demo"]


@pytest.mark.parametrize("damage", ["", "{", "[" * 100_000, "a pipe", '{"seal": 1}'])
def test_a_damaged_manifest_goes_to_quarantine_and_gc_goes_on(damage: str, filled) -> None:
    store, plan = filled
    record.write(plan, store)
    other = compile_plan(compile_sweep("demo", ["seed=1"]))
    for stage in other.stages.values():
        if not store.has(stage.key):
            put(store, stage)
    key = plan.targets[0].key
    manifest = store.path(key) / "manifest.json"
    manifest.unlink()
    os.mkfifo(manifest) if damage == "a pipe" else manifest.write_text(damage)
    console = Console(file=io.StringIO(), width=300)
    assert collect(store, rollouts=False, yes=True, console=console) == 0
    out = console.file.getvalue()
    assert f"artifact {key}: manifest.json is" in out or "does not match" in out
    assert "It is in quarantine; run again to rebuild it" in out and "freed" in out
    assert not store.has(key) and list((store.root / "quarantine").glob(f"{key}-*.txt"))
    assert not store.has(other.targets[0].key) and store.has(plan.targets[1].key)
    quiet_again = Console(file=io.StringIO(), width=300)
    assert collect(store, rollouts=False, yes=True, console=quiet_again) == 0
    assert "quarantine" not in quiet_again.file.getvalue()
