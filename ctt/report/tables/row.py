"""Row: one point of a comparison, over its seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ctt.report.tables.estimates import MetricEstimate

SCREENED = "screened"
"""The mark of a row whose questions the baseline's ALOE answered."""


@dataclass(frozen=True)
class Row:
    """One point over its seeds. `estimates` holds the accuracies, `options` them per option, `forms` each question form.

    seeds: those with a result; paired: how many of them the baseline has too; missing: seeds without a result.
    auxiliary: the columns of auxiliary stages, by kind and name. sentence: what the differences show.
    devices: {kind of stage: what it ran on, over all seeds}.
    by_seed: each accuracy and error of each seed, what its estimate is the mean of.
    """

    label: str
    values: Mapping[str, Any]
    baseline: bool
    marks: tuple[str, ...]
    seeds: tuple[int, ...]
    paired: int
    missing: tuple[int, ...]
    estimates: dict[str, MetricEstimate]
    options: dict[str, MetricEstimate]
    forms: dict[str, MetricEstimate]
    errors: dict[str, MetricEstimate]
    auxiliary: dict[str, dict[str, MetricEstimate]]
    cost: dict[str, float]
    devices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    sentence: str = ""
    by_seed: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    def estimate(self, metric: str) -> MetricEstimate | None:
        """The estimate of an accuracy, a question form, or an error; None if the row has none of that name."""
        return self.estimates.get(metric) or self.forms.get(metric) or self.errors.get(metric)

    def deltas(self, metric: str, baseline: Row | None) -> list[float]:
        """The difference to the baseline's row for each seed that both have."""
        mine, theirs = self.by_seed.get(metric, {}), baseline.by_seed.get(metric, {}) if baseline else {}
        return [value - theirs[seed] for seed, value in mine.items() if seed in theirs]
