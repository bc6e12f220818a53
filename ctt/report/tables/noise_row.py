"""The A/A row: how much ALOE's seed alone changes accuracies, from runs that differ only in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ctt.core.errors import DataError
from ctt.report import statistics
from ctt.report.results import Noise, read
from ctt.report.tallies import Tallies


@dataclass(frozen=True)
class NoiseRow:
    """Percent, by metric. deviation: SD of one run's accuracy over ALOE seeds (freedom: its degrees of freedom).

    delta, low, high: the difference between disjoint pairs of such runs, whose interval should contain 0; None with
    fewer than three pairs.
    """

    label: str
    runs: int
    pairs: int
    freedom: int
    deviation: dict[str, float | None]
    delta: dict[str, float | None]
    low: dict[str, float | None]
    high: dict[str, float | None]


def noise_row(noise: Noise, tallies: Tallies) -> NoiseRow:
    """The row of one set of A/A runs. Raises DataError if the runs answered different questions."""
    groups = []
    layout = None
    for g, group in enumerate(noise.groups):
        counted = [tallies.count(read(frame), f"{noise.label}, group {g}, run {k}") for k, frame in enumerate(group)]
        for tally in counted:
            layout = layout or tally.layout
            if tally.layout is not layout:
                raise DataError(f"{noise.label}: the runs did not all answer the same questions")
        groups.append([tally.pooled() for tally in counted])
    runs = sum(len(group) for group in groups)
    metrics = tallies.categories.metrics
    nothing: dict[str, float | None] = dict.fromkeys(metrics)
    if layout is None:
        return NoiseRow(noise.label, 0, 0, 0, nothing, nothing, nothing, nothing)
    questions_mv = layout.membership(metrics) @ layout.questions
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy = [np.array([100 * right.sum(-1) / questions_mv.sum(-1) for right in group]) for group in groups]
    deviation, freedom = statistics.pooled_deviation(accuracy)
    gaps = [group[i] - group[i + 1] for group in groups for i in range(0, len(group) - 1, 2)]
    if not gaps:
        return NoiseRow(noise.label, runs, 0, freedom, nothing, nothing, nothing, nothing)
    estimate = statistics.estimate(np.stack(gaps, axis=1), questions_mv)
    return NoiseRow(
        noise.label,
        runs,
        len(gaps),
        freedom,
        _by_metric(metrics, deviation),
        _by_metric(metrics, estimate.value),
        _by_metric(metrics, estimate.low),
        _by_metric(metrics, estimate.high),
    )


def _by_metric(metrics: Sequence[str], values: np.ndarray) -> dict[str, float | None]:
    return {m: float(v) if np.isfinite(v) else None for m, v in zip(metrics, values, strict=True)}
