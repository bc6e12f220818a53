"""Results: what a sweep's runs produced, as this package reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pandas as pd

from ctt.core.errors import UsageError
from ctt.data.categories import CLEVRER_CATEGORIES, Categories
from ctt.stages.columns import AuxiliaryColumns

__all__ = [
    "COLUMNS",
    "Noise",
    "PointResults",
    "Predictions",
    "Results",
    "RunResults",
    "read",
]

COLUMNS = ["scene", "question_id", "choice_id", "category", "form", "correct"]
"""The columns of a predictions frame that tables read; reading only these from parquet is several times faster."""

Predictions: TypeAlias = pd.DataFrame | Callable[[], pd.DataFrame]
"""A frame with one row per sequence (a descriptive question, or one choice), or a function that reads it when needed."""


@dataclass(frozen=True)
class PointResults:
    """One point of a sweep. `values` are its swept settings; `marks` are remarks that a table shows.

    unreached: categories that the swept values cannot reach (they read nothing that differs from the baseline); a table
    shows "not reachable" instead of a difference of 0.0.
    """

    label: str
    values: Mapping[str, Any] = field(default_factory=dict)
    baseline: bool = False
    marks: Sequence[str] = ()
    unreached: Sequence[str] = ()


@dataclass(frozen=True)
class RunResults:
    """One run: point (its index in Results.points) × seed. `predictions` is None while the run is missing.

    errors: {"world_model": …, "rollout": …}, mean squared errors. Of auxiliary stages, by kind: answered: their answers to
    questions; measured: {column: number}.
    cost: {"device_hours": …, …}.
    numerics: what the bits depend on besides the key (device model, threads …), as one text; None if not recorded.
    devices: {kind of stage: what it ran on}, where recorded.
    warnings: texts that the table shows with this run's seed.
    """

    point: int
    seed: int
    predictions: Predictions | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    answered: Mapping[str, Predictions] = field(default_factory=dict)
    measured: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    numerics: str | None = None
    devices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Noise:
    """Runs that differ only in ALOE's seed: each group holds the predictions of one world model's ALOE runs."""

    label: str
    groups: Sequence[Sequence[Predictions]]


@dataclass(frozen=True)
class Results:
    """A sweep's points, its runs in any order, the names of published rows to show, and A/A runs if there are any.

    reach: sentences on which categories the swept values can reach, and how.
    auxiliary: what auxiliary stages add to the table, in the order in which it has them.
    protocol: how the sweep's recipe relates to that of the published rows, in a sentence; same_protocol: whether it is theirs.
    blind: answers without the video, by what gave them.
    categories: of the data's questions; without any, a run's results are its errors.
    reference_levels: by kind of auxiliary stage its answers without a world model, by what it read instead.
    unread: by kind of auxiliary stage the questions that it cannot read, which count as wrong: {"scene", "question_id", "category",
    "reason"} of each.
    """

    sweep: str
    points: Sequence[PointResults]
    runs: Sequence[RunResults]
    quoted: Sequence[str] = ()
    noise: Sequence[Noise] = ()
    reach: Sequence[str] = ()
    reference_levels: Mapping[str, Mapping[str, Predictions]] = field(default_factory=dict)
    unread: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    auxiliary: Sequence[AuxiliaryColumns] = ()
    blind: Mapping[str, Predictions] = field(default_factory=dict)
    protocol: str = ""
    same_protocol: bool = True
    categories: Categories = CLEVRER_CATEGORIES

    def __post_init__(self) -> None:
        """Raises UsageError for two baselines, a run of an unknown point, or two runs of one point and seed."""
        if sum(point.baseline for point in self.points) > 1:
            raise UsageError(f"{self.sweep}: more than one point is the baseline")
        seen = set()
        for run in self.runs:
            if not 0 <= run.point < len(self.points):
                raise UsageError(f"{self.sweep}: a run names point {run.point}, but there are {len(self.points)} points")
            if (run.point, run.seed) in seen:
                raise UsageError(f"{self.sweep}: two runs of {self.points[run.point].label}, seed {run.seed}")
            seen.add((run.point, run.seed))


def read(predictions: Predictions) -> pd.DataFrame:
    """The frame itself, or what its function reads."""
    return predictions if isinstance(predictions, pd.DataFrame) else predictions()
