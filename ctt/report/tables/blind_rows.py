"""Levels of answering without the video, and which accuracies are shown to be above them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ctt.report import statistics
from ctt.report.tables.estimates import MetricEstimate, known
from ctt.report.tallies import Tally


@dataclass(frozen=True)
class BlindLevel:
    """The accuracies of answering without the video, percent by metric and by form; None where no question was asked."""

    label: str
    means: dict[str, float | None]
    forms: dict[str, float | None]


def blind_level(label: str, tally: Tally) -> BlindLevel:
    """The level of one set of answers."""
    layout = tally.layout
    found = []
    for names in (layout.categories.metrics, layout.form_names):
        questions = (layout.membership(names) @ layout.questions).sum(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            accuracy = 100.0 * (layout.membership(names) @ tally.right).sum(-1) / questions
        found.append({name: known(value) for name, value in zip(names, accuracy, strict=True)})
    return BlindLevel(label, *found)


def against_blind(
    estimates: Mapping[str, MetricEstimate], tallies: Sequence[Tally], blind: Sequence[Tally]
) -> dict[str, MetricEstimate]:
    """The estimates, each with whether its runs are shown to be above every level that answered the same questions."""
    layout = tallies[0].layout
    names = tuple(estimates)
    member_mf = layout.membership(names)
    questions_mv = member_mf @ layout.questions
    above = np.ones(len(names), dtype=bool)
    levels = [level for level in blind if level.layout is layout]
    for level in levels:
        gaps_mnv = np.stack([member_mf @ (tally.right.astype(np.int32) - level.right) for tally in tallies], axis=1)
        above &= _low(gaps_mnv, questions_mv) > 0
    asked = questions_mv.sum(-1) > 0
    return {
        name: replace(estimates[name], above_blind=bool(above[m]) if levels and asked[m] else None) for m, name in enumerate(names)
    }


def _low(gaps_mnv: np.ndarray, questions_mv: np.ndarray) -> np.ndarray:
    """The lower bound of differences; of fewer seeds than have a variance, over the videos alone."""
    if gaps_mnv.shape[1] >= statistics.LEAST_SEEDS:
        return statistics.estimate(gaps_mnv, questions_mv).low
    low: np.ndarray = np.nan_to_num(statistics.over_videos(gaps_mnv.mean(1), questions_mv).low, nan=-np.inf)
    return low
