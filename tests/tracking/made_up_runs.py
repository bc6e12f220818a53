"""Made-up stages and runs, the work their jobs would do, and what MLflow has of it, read behind its back."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from ctt.core.build_context import BuildContext
from ctt.tracking.tracked_runs import TrackedRun, TrackedStage
from ctt.tracking.tracking_settings import TrackingSettings, database_path

ROOT = Path(__file__).resolve().parents[2]
SQLITE = TrackingSettings(every=0.2)
CATEGORIES = {"descriptive": 80.0, "predictive": 61.5}


def stage(store: Path, kind: str, key: str) -> TrackedStage:
    finished, working = store / "artifacts" / key, store / "work" / key
    return TrackedStage(kind, key, finished, working, store / "failures" / key)


def run(store: Path, name: str = "ctt-1", stages: tuple[TrackedStage, ...] | None = None, **changes: Any) -> TrackedRun:
    values: dict[str, Any] = dict(
        sweep="demo",
        name=name,
        point=name.rsplit("-", 1)[0],
        seed=1,
        tags={"git_commit": "abc123"},
        params={"ctt_inv_weight": 0.2, "world_model.epochs": 3, "data.note": "x" * 7000, "graph.frames": "sum"},
        stages=(stage(store, "world_model", f"wm-{name}"), stage(store, "vqa", f"vqa-{name}")) if stages is None else stages,
    )
    return TrackedRun(**{**values, **changes})


def work(stage: TrackedStage, steps: range, **metrics: float) -> None:
    """Does what a stage's job does: appends a line of metrics for each step."""
    assert isinstance(stage.working, Path)
    stage.working.mkdir(parents=True, exist_ok=True)
    job = BuildContext(stage.working)
    for step in steps:
        job.log(step, **(metrics or {"train_loss": 1.0 / step}))


def finish(stage: TrackedStage, **finals: Any) -> None:
    assert isinstance(stage.working, Path)
    stage.working.mkdir(parents=True, exist_ok=True)
    (stage.working / "metrics.json").write_text(json.dumps(finals))
    stage.finished.parent.mkdir(parents=True, exist_ok=True)
    stage.working.rename(stage.finished)


def rows(database: Path, question: str, *values: Any) -> list[tuple[Any, ...]]:
    """Reads the database behind MLflow's back: what is really in it, duplicates and all."""
    with sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True) as connection:
        return connection.execute(question, values).fetchall()


def metrics(store: Path) -> list[tuple[Any, ...]]:
    """(run name, metric, step, value, time) of every point in the database, sorted."""
    return rows(
        database_path(store),
        "SELECT name, key, step, value, timestamp FROM metrics JOIN runs USING (run_uuid) ORDER BY 1, 2, 3, 5",
    )


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def curve(store: Path, name: str, key: str) -> list[tuple[int, float]]:
    return [(step, value) for run, metric, step, value, _ in metrics(store) if (run, metric) == (name, key)]
