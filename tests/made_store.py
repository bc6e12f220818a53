"""A store of made-up artifacts: every stage of a compiled sweep is there, and nothing was computed.

For tests of what reads stores: reports, the MLflow view, notebooks, and their scaling.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctt.core.build_context import METRICS, read_metrics
from ctt.data.accuracy import metrics_of
from ctt.planning import Plan, compile_plan
from ctt.stages.base import Stage
from ctt.stages.vqa import Vqa
from ctt.store import Store
from ctt.study import record
from ctt.sweep import compile_sweep
from ctt.training.curve import curve
from tests.report import made_up_answers

MINI = ("data=mini", "world_model=mini", "aloe=mini", "world_model.epochs=6", "aloe.epochs=5", "ctt_start_epoch=2")
LOGGED: dict[str, Callable[[int], float]] = {
    "learning_rate": lambda k: 1e-3 / k,
    "gradient_norm": lambda k: 0.5 + 1 / k,
    "steps_per_second": lambda k: 12.5,
    "memory_mib": lambda k: 512.0,
    "cpu_percent": lambda k: 98.0,
}
"""What every training logs by epoch."""
Answers = Callable[[Vqa, int], Path | pd.DataFrame]  # from a run's stage and its number: a frame, or a file to link


def made_store(root: Path, name: str, *overrides: str, answers: Answers | None = None) -> tuple[Store, Plan]:
    """A store at `root` with the sweep `name` recorded and finished; more sweeps can be added by calling again."""
    plan = compile_plan(compile_sweep(name, [*MINI, *overrides]))
    store = Store(root)
    record.write(plan, store)
    fill(store, plan, list(plan.stages.values()), answers or plausible(plan))
    return store, plan


def plausible(plan: Plan) -> Answers:
    """Answers in 40 videos, a little worse with larger weights of the losses."""
    questions = made_up_answers.questions(40)
    weights = {t.key: run.config.ctt_inv_weight for run, t in zip(plan.sweep.runs, plan.targets, strict=True)}

    def answers(target: Vqa, number: int) -> pd.DataFrame:
        return made_up_answers.predictions(questions, number, {"counterfactual": -2.5 * weights[target.key]})

    return answers


def fill(store: Store, plan: Plan, stages: Sequence[Stage], answers: Answers) -> None:
    """Publishes a made-up artifact for each stage that the store lacks."""
    writers: dict[str, Callable[[Stage, Path, int], None]] = {
        "data": _data,
        "world_model": _world_model,
        "rollout": _rollout,
        "vqa": lambda stage, folder, number: _vqa(stage, folder, answers(stage, number)),  # type: ignore[arg-type]
    }
    for number, stage in enumerate(stages):
        if store.has(stage.key) or stage.kind not in writers:
            continue
        with store.lease(stage.key) as lease:
            folder = store.work_folder(stage.key)
            writers[stage.kind](stage, folder, number)
            now = time.time()
            provenance = {
                "numerics": "made up",
                "began": now - 30.0,
                "ended": now,
                "seconds": 90.0,  # more than ended - began: it was interrupted
                "rate": {"step": 12.5},
                "peak_memory_mib": 512.0,
            }
            store.publish(stage.key, folder, lease, {**stage.describe(), "facts": {}, "provenance": provenance})


def _data(stage: Stage, folder: Path, number: int) -> None:
    (folder / "dataset.json").write_text(json.dumps({"name": "made up"}), encoding="utf-8")


def _curve(folder: Path, steps: Sequence[int], **values: Callable[[int], float]) -> None:
    now = time.time() - 60
    lines = [{"t": now + k, "step": k, **{name: value(k) for name, value in values.items()}} for k in steps]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _world_model(stage: Any, folder: Path, number: int) -> None:
    first = stage.branch_points()[0].epoch if stage.branch_points() else 0
    shift = 1 + 0.02 * np.sin(number)
    _curve(
        folder,
        range(first + 1, stage.epoch + 1),
        train_loss=lambda k: 0.08 * shift / k,
        validation_error=lambda k: 0.02 + 0.05 * shift / k,
        **LOGGED,
    )
    error = {"error": 0.025 + 0.05 * shift / stage.epoch, "error_visible": 0.02 + 0.05 * shift / stage.epoch, "copy_last": 0.04}
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "metrics.json").write_text(json.dumps({"validation": error}), encoding="utf-8")


def _rollout(stage: Stage, folder: Path, number: int) -> None:
    (folder / "metrics.json").write_text(
        json.dumps({"error": 0.035, "error_visible": 0.03 + 0.001 * np.sin(number)}), encoding="utf-8"
    )


def _vqa(stage: Any, folder: Path, answers: Path | pd.DataFrame) -> None:
    path = folder / "predictions.parquet"
    if isinstance(answers, Path):
        os.link(answers, path)
        (folder / "metrics.json").write_text("{}", encoding="utf-8")
        return
    answers.to_parquet(path)
    metrics = metrics_of(answers)
    if stage.aloe_from is None:
        (folder / "model.safetensors").write_bytes(b"weights")
        metrics["curve"] = _trained(stage, folder, answers)
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")


def _trained(stage: Any, folder: Path, answers: pd.DataFrame) -> dict[str, Any]:
    """Writes the metrics of ALOE's epochs, which end at these answers; with patience one epoch early."""
    last, videos = stage.aloe.epochs - stage.aloe.may_stop, answers.scene.unique()
    evaluated = videos[: stage.aloe.eval_videos]  # None: all
    part = metrics_of(answers[answers.scene.isin(evaluated)])
    scores = {**part["per_question"], "multiple_choice": part["multiple_choice"], "average": part["average"]}
    reached = {k: 1 - 0.5**k + (0.05 if k == last - 1 else 0.0) for k in range(1, last + 1)}  # best before the last
    curves = {name: (lambda k, value=value: value * reached[k] / reached[last]) for name, value in scores.items()}
    _curve(folder, range(1, last + 1), train_loss=lambda k: 3 / k, **curves, **LOGGED)
    lines = read_metrics(folder / METRICS)
    return curve(lines, names=list(scores), videos=len(evaluated), of=len(videos), planned=stage.aloe.epochs)
