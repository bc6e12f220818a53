"""World models and ALOEs of files as points of a sweep, beside trained and screened points."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from ctt.app.import_checkpoint import imported_model
from ctt.core.errors import DataError
from ctt.execution.jobs import spec
from ctt.planning import Plan, compile_plan
from ctt.report.tables.table import build as table_of
from ctt.stages.base import Stage, build
from ctt.stages.main_line import MainLine
from ctt.store import Store
from ctt.study import record
from ctt.study.loading import results
from ctt.sweep import compile_sweep
from ctt.training.published_checkpoint import read
from tests.models.aloe.literal_aloe import LiteralAloe
from tests.models.literal_world_model import LiteralPredictor
from tests.tiny import TINY

SMALL = [*TINY, "world_model.epochs=1", "data.train=12", "data.validation=6", "diagnostics.windows=16", "reader.videos=12"]


def world_model(path: Path, seed: int = 4) -> Path:
    """With the shape of world_model=mini and the published names."""
    torch.manual_seed(seed)
    torch.save(LiteralPredictor(3, 4, 2, 4, 256, 128).state_dict(), path)
    return path


def written(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(f"name: mine\nbaseline: {{ctt_inv_weight: 0, ctt_suf_weight: 0}}\npoints:\n{text}\nseeds: [0, 1]\n")
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("points")


@pytest.fixture(scope="module")
def plan(folder: Path) -> Plan:
    world_model(folder / "w.ckpt")
    torch.save(LiteralAloe().state_dict(), folder / "a.pth")
    points = f"  - {{world_model.checkpoint: {folder}/w.ckpt}}\n  - {{ctt_inv_weight: 0.2, ctt_start_epoch: 0}}"
    return compile_plan(compile_sweep(written(folder, points), SMALL))


@pytest.fixture(scope="module")
def store(plan: Plan, folder: Path) -> Store:
    made = Store.open(folder / "store")
    record.write(plan, made)
    for target, auxiliaries in zip(plan.targets, plan.auxiliaries, strict=True):
        for stage in (target, *auxiliaries):
            build(stage, made)
    return made


def state_of(plan: Plan, label: str) -> Stage:
    (point,) = [p for p in plan.sweep.points if label in p.label]
    return next(line.world_model for run, line in zip(plan.sweep.runs, plan.lines, strict=True) if run.point is point)


def test_its_key_is_its_weights_whatever_the_file_is_called_and_the_seed(plan: Plan, folder: Path) -> None:
    state = state_of(plan, "checkpoint")
    assert {line.world_model.key for line in plan.lines if line.world_model.kind == "world_model"} >= {state.key}
    assert (
        len(
            {line.world_model.key for run, line in zip(plan.sweep.runs, plan.lines, strict=True) if "checkpoint" in run.point.label}
        )
        == 1
    )
    again = compile_plan(
        compile_sweep(written(folder, f"  - {{world_model.checkpoint: {world_model(folder / 'other name.ckpt')}}}"), SMALL)
    )
    assert state_of(again, "checkpoint").key == state.key
    other = compile_plan(
        compile_sweep(written(folder, f"  - {{world_model.checkpoint: {world_model(folder / 'o.ckpt', 5)}}}"), SMALL)
    )
    assert state_of(other, "checkpoint").key != state.key
    config = next(p.config for p in plan.sweep.points if "checkpoint" in p.label)
    assert imported_model(read(folder / "w.ckpt"), config).key == state.key, "as `ctt import-checkpoint` has it"


def test_settings_of_a_training_merge(folder: Path, plan: Plan) -> None:
    file = folder / "w.ckpt"
    one = f"world_model.checkpoint: {file}"
    text = f"  - {{{one}}}\n  - {{{one}, world_model.learning_rate: 0.1, ctt_inv_weight: 0.5}}"
    sweep = compile_sweep(written(folder, text), SMALL)
    assert len(sweep.points) == 2 and "weights are those of a file" in sweep.merged[0].reason


@pytest.mark.slow
def test_all_later_stages_run_on_it_and_the_table_has_it_beside_trained_points(plan: Plan, store: Store) -> None:
    table = table_of(results(record.load(record.newest(store, "mine")), store))
    assert [len(row.seeds) for row in table.rows] == [2, 2, 2]
    imported = next(row for row in table.rows if "checkpoint" in row.label)
    trained = table.rows[0]
    assert imported.errors.keys() == trained.errors.keys() and imported.marks == ()
    assert all(row.auxiliary["reader"]["predictive"].mean is not None for row in table.rows)
    assert all(
        row.estimates["descriptive"].mean is not None and row.estimates["descriptive"].delta is not None for row in table.rows[1:]
    )
    assert {level.label for level in table.blind} == {"most frequent answer of the form", "the question's words alone"}


@pytest.mark.slow
def test_its_validation_error_is_that_of_the_literal_model(plan: Plan, store: Store, folder: Path) -> None:
    """Mean over windows, frames and slots, counted here."""
    line = next(line for run, line in zip(plan.sweep.runs, plan.lines, strict=True) if "checkpoint" in run.point.label)
    stage = next(s for stages in plan.auxiliaries for s in stages if s.kind == "world_model_error")
    found = json.loads((store.path(stage.key) / "metrics.json").read_text())["validation"]
    from ctt.data.dataset import Dataset
    from ctt.training.validation import Validation

    settings = line.world_model.world_model
    validation = Validation(settings, Dataset.open(store.path(line.data.key)).split("validation"))
    model = LiteralPredictor(3, 4, 2, 4, 256, 128).eval()
    model.load_state_dict(torch.load(folder / "w.ckpt"))

    class Literal:
        def predict(self, history: torch.Tensor) -> torch.Tensor:
            return model(history, [[]] * len(history))[0][:, 3:]

    errors = validation.errors(Literal())  # type: ignore[arg-type]
    assert found["error"] == pytest.approx(errors["error"], rel=1e-4)


@pytest.mark.slow
def test_a_frozen_job_builds_the_same_stage_and_refuses_other_weights(plan: Plan, store: Store, tmp_path: Path) -> None:
    job = next(job for job in plan.jobs if "checkpoint" in job.label)
    frozen = spec.freeze(job, store, tmp_path, 0)
    target, auxiliaries = spec.thaw(json.loads(frozen.path.read_text()))
    assert target.key == job.target.key and [a.key for a in auxiliaries] == [a.key for a in job.auxiliaries]
    file = world_model(tmp_path / "w.ckpt")
    changed = compile_plan(compile_sweep(written(tmp_path, f"  - {{world_model.checkpoint: {file}}}"), SMALL))
    world_model(file, seed=6)
    with pytest.raises(DataError, match="other weights than when the sweep was compiled"):
        build(state_of(changed, "checkpoint"), Store.open(tmp_path / "store"))


@pytest.mark.slow
def test_an_aloe_of_a_file_answers_and_is_not_screened(folder: Path, plan: Plan, store: Store) -> None:
    words = [*SMALL, "aloe=reference"]
    sweep = compile_sweep(
        written(folder, f"  - {{aloe.checkpoint: {folder}/a.pth, world_model.checkpoint: {folder}/w.ckpt}}"), words
    )
    small = compile_plan(sweep)
    line = next(MainLine.of(t) for run, t in zip(sweep.runs, small.targets, strict=True) if "checkpoint" in run.point.label)
    assert line.aloe_from is None and line.answers is not None and line.answers.aloe_from is not None
    answers = build(line.target, store)
    assert len(pd.read_parquet(answers.path / "predictions.parquet")) > 0
    assert all("checkpoint" not in job.label or job.teacher is None for job in small.jobs)


def test_missing_and_wrong_files_are_named_before_any_work(folder: Path, plan: Plan) -> None:
    missing = compile_plan(compile_sweep(written(folder, "  - {world_model.checkpoint: nowhere.ckpt}"), SMALL))
    state = state_of(missing, "checkpoint")
    assert state.provisional  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="nowhere.ckpt is missing.*ctt data fetch checkpoints"):
        state.check()  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="a.pth holds an ALOE; it belongs to aloe.checkpoint"):
        compile_sweep(written(folder, f"  - {{world_model.checkpoint: {folder}/a.pth}}"), SMALL)
    with pytest.raises(DataError, match="w.ckpt does not fit"):
        compile_sweep(written(folder, f"  - {{world_model.checkpoint: {folder}/w.ckpt, world_model.depth: 3}}"), SMALL)


def test_the_published_sweep_names_the_ten_checkpoints() -> None:
    sweep = compile_sweep("published", [])
    files = [p.config.world_model.checkpoint for p in sweep.points]
    assert len(set(files)) == 10 and all(f"_{masked}_epoch_30" in " ".join(map(str, files)) for masked in range(5))
    assert sum("savi" in str(file) for file in files) == sum("savi" in str(p.config.data.slots_file) for p in sweep.points) == 5
