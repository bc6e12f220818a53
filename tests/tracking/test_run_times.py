"""Times and costs of a run in MLflow: those of the work that it caused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from ctt.study.tracked_sweep import store_syncer, tracked_runs
from ctt.tracking.syncer import Syncer
from ctt.tracking.tracked_runs import TrackedStage
from ctt.tracking.tracking_settings import TrackingSettings
from tests.made_store import made_store
from tests.tracking.made_up_runs import CATEGORIES, SQLITE, finish, run, stage

HOUR = 3600.0
ALONE = ("diagnostics.enabled=false", "reader.enabled=false")


def build(one: TrackedStage, began: float, ended: float, **finals: object) -> None:
    """Does what a stage's job does from `began` to `ended` (s since 1970): two metrics, final numbers, a manifest."""
    assert isinstance(one.working, Path)
    one.working.mkdir(parents=True)
    lines = [{"t": t, "step": step, "train_loss": 1.0} for step, t in enumerate((began + 1, ended - 1), start=1)]
    (one.working / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    provenance = {"provenance": {"began": began, "ended": ended, "seconds": ended - began}}
    (one.working / "manifest.json").write_text(json.dumps(provenance))
    finish(one, **finals)


def seen(store: Path, experiment: str = "demo") -> dict[str, Run]:
    client = MlflowClient(tracking_uri=SQLITE.address(store))
    return {one.info.run_name: one for one in client.search_runs([client.get_experiment_by_name(experiment).experiment_id])}


def costs(one: Run) -> dict[str, float]:
    return {name: value for name, value in one.data.metrics.items() if name.endswith("_seconds")}


def test_a_runs_times_are_those_of_the_work_it_caused(store: Path) -> None:
    data, prefix = stage(store, "data", "d"), stage(store, "world_model", "prefix")
    asked, own = 10 * HOUR, {name: stage(store, "vqa", name) for name in ("a", "b")}
    build(data, HOUR, HOUR + 40)  # of another sweep's work
    build(prefix, asked + 5, asked + 65)
    runs = [run(store, f"{name}-1", (data, prefix, vqa), asked=round(asked * 1000)) for name, vqa in own.items()]
    for number, vqa in enumerate(own.values()):
        build(vqa, asked + 100 * (number + 1), asked + 100 * (number + 1) + 30, per_question=CATEGORIES)
    Syncer(SQLITE, store, runs).sync_once()
    found = seen(store)
    assert [one.info.start_time for _, one in sorted(found.items())] == [round((asked + 5) * 1000)] * 2
    assert [one.info.end_time for _, one in sorted(found.items())] == [round((asked + end) * 1000) for end in (130, 230)]
    assert costs(found["a-1"]) == {"own_seconds": 30, "shared_seconds": 60, "cached_seconds": 40}
    note = "30 s of its own stages, 1 min of stages shared with other runs of the sweep, 40 s cached from earlier work (data)"
    assert f"Device time: {note}" in found["a-1"].data.tags["mlflow.note.content"]


def test_times_are_the_same_in_a_copy_whose_files_are_new(store: Path, tmp_path: Path) -> None:
    one = run(store, stages=(stage(store, "vqa", "v"),))
    build(one.stages[0], HOUR, HOUR + 123, per_question=CATEGORIES)
    copy = shutil.copytree(store, tmp_path / "copy", copy_function=shutil.copyfile)
    os.utime(copy / "artifacts" / "v" / "metrics.json", (9 * HOUR, 9 * HOUR))
    times = []
    for root in (store, copy):
        Syncer(SQLITE, root, [run(root, stages=(stage(root, "vqa", "v"),))]).sync_once()
        info = seen(root)["ctt-1"].info
        times.append((info.start_time, info.end_time))
    assert times == [(3_600_000, 3_723_000)] * 2


def test_a_run_that_waits_for_its_own_work_is_not_shown_as_begun_by_others(store: Path) -> None:
    data, vqa = stage(store, "data", "d"), stage(store, "vqa", "v")
    build(data, HOUR, HOUR + 40)
    one = run(store, stages=(data, vqa), asked=round(2 * HOUR * 1000))
    syncer = Syncer(SQLITE, store, [one])
    assert syncer.sync_once() == 0
    build(vqa, 3 * HOUR, 3 * HOUR + 10, per_question=CATEGORIES)
    syncer.sync_once()
    assert seen(store)["ctt-1"].info.start_time == round(3 * HOUR * 1000)


@pytest.mark.slow
def test_what_an_earlier_sweep_made_is_cached_for_a_later_one(tmp_path: Path, empty_database: Path) -> None:
    root = shutil.copytree(empty_database, tmp_path / "store")
    made_store(root, "weights", "ctt_inv_weight=0,0.2", "ctt_suf_weight=0", "seed=0", *ALONE)
    store, plan = made_store(root, "weights", "ctt_inv_weight=0,0.2,0.3", "ctt_suf_weight=0", "seed=0", *ALONE)
    asked = {one.point: one.asked for one in tracked_runs(plan, store)}
    assert asked["baseline"] == asked["ctt_inv_weight=0.2"] < asked["ctt_inv_weight=0.3"]
    syncer = store_syncer(TrackingSettings(), store)
    syncer.sync_once(patient=False)
    found = {name: costs(one) for name, one in seen(root, "weights").items()}
    assert found["seed=0 baseline"]["cached_seconds"] == 0 < found["seed=0 baseline"]["own_seconds"]
    assert found["seed=0 ctt_inv_weight=0.3"]["cached_seconds"] >= 90, "the data set, and the shared prefix"
