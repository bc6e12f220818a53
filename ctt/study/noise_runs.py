"""Noise: the A/A runs of a sweep's baseline in the store, from any sweep."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from ctt.core.errors import StoreError, UsageError
from ctt.planning import Plan
from ctt.report.results import COLUMNS, Noise
from ctt.stages.vqa import Vqa
from ctt.store import Artifact, Store
from ctt.study import record


def noise(plan: Plan, store: Store) -> list[Noise]:
    """Runs on the baseline's rollouts that differ from it, and from each other, only in ALOE's seed.

    They are found in the newest records of all sweeps; [] unless a rollout has two such runs.
    """
    wanted = {_without_seed(answers) for answers in _baseline(plan)}
    groups: dict[str, dict[str, Vqa]] = defaultdict(dict)
    for other in (plan, *_others(plan, store)):
        for line in other.lines:
            if (answers := line.answers) is None or answers.aloe_from is not None:
                continue
            if (identity := _without_seed(answers)) in wanted:
                groups[identity][answers.key] = answers
    found = []
    for group in groups.values():
        artifacts = [a for answers in sorted(group.values(), key=_order) if (a := store.get(answers.key)) is not None]
        if len(artifacts) > 1:
            found.append([predictions_of(artifact) for artifact in artifacts])
    return [Noise("other ALOE seeds", found)] if found else []


def predictions_of(artifact: Artifact, name: str = "predictions.parquet") -> Callable[[], pd.DataFrame]:
    """A function that reads the columns of an artifact's predictions that tables need, those of words as categoricals: they have
    a few values in tens of thousands of rows."""
    return partial(pd.read_parquet, artifact.file(name), columns=COLUMNS, read_dictionary=["category", "form"])


def _baseline(plan: Plan) -> list[Vqa]:
    every = zip(plan.sweep.runs, plan.lines, strict=True)
    return [line.answers for run, line in every if run.point.baseline and line.answers is not None]


def _without_seed(answers: Vqa) -> str:
    """What decides its answers besides its seed. It has an ALOE of its own."""
    inputs = {name: stage.key for name, stage in answers.inputs().items()}
    return json.dumps([inputs, {**answers.settings(), "seed": None}], sort_keys=True)


def _order(answers: Vqa) -> tuple[int, str]:
    return int(answers.settings()["seed"]), answers.key


def _others(plan: Plan, store: Store) -> list[Plan]:
    """Plans of the other recorded sweeps that set ALOE's seed; no others are compiled."""
    plans = []
    for name in record.names(store):
        folder = record.newest(store, name)
        if name != plan.sweep.name and _sets_aloes_seed(folder):
            with contextlib.suppress(StoreError, UsageError):
                plans.append(record.load(folder))
    return plans


def _sets_aloes_seed(folder: Path) -> bool:
    try:
        written = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        changes = [point["changes"].get("aloe.aloe_seed") for point in written["points"]]
        return any(seed is not None for seed in (written["baseline"]["aloe"]["aloe_seed"], *changes))
    except (OSError, ValueError, KeyError, TypeError):
        return False
