"""Estimates: a table's numbers, each with its interval and its difference to the baseline."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from ctt.report import statistics
from ctt.report.statistics import Estimate, Spread
from ctt.report.tallies import QuestionLayout, Tally


@dataclass(frozen=True)
class MetricEstimate:
    """One number of a row, in percent (differences in points) or, for errors, in the error's own unit.

    None: not known (no runs, fewer than three seeds, or no pair with the baseline). `reached` is False where the swept values
    cannot reach the category; then every field of the difference is None. smallest: the minimum detectable difference, with the
    interval of what it estimates; spread: the variance of this row's difference. above_blind: whether the mean is shown to be
    above every level of answering without the video; None where no level is known.
    """

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    delta: float | None = None
    delta_low: float | None = None
    delta_high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    sign_flip: float | None = None
    smallest: float | None = None
    smallest_low: float | None = None
    smallest_high: float | None = None
    reached: bool = True
    above_blind: bool | None = None
    spread: Spread | None = field(default=None, repr=False, compare=False)

    def numbers(self) -> dict[str, Any]:
        """Its fields by name, for programs."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "spread"}


Pairs = Sequence[tuple[Tally, Tally]]  # a run's answers and the baseline's of the same seed


def question_estimates(
    metrics: tuple[str, ...], tallies: Sequence[Tally], pairs: Pairs, unreached: Collection[str] = ()
) -> dict[str, MetricEstimate]:
    """Estimates per question: accuracy over all seeds, difference over the paired ones.

    The tallies are at least one and share one layout.
    """
    layout = tallies[0].layout
    difference = [mine.right.astype(np.int32) - theirs.right for mine, theirs in pairs]
    return _estimates(metrics, layout, layout.questions, np.stack([t.right for t in tallies]), _stack(difference), unreached)


def option_estimates(
    metrics: tuple[str, ...], tallies: Sequence[Tally], pairs: Pairs, unreached: Collection[str] = ()
) -> dict[str, MetricEstimate]:
    """The same per option instead of per question."""
    layout = tallies[0].layout
    difference = [mine.right_options.astype(np.int32) - theirs.right_options for mine, theirs in pairs]
    chosen = np.stack([t.right_options for t in tallies])
    return _estimates(metrics, layout, layout.options, chosen, _stack(difference), unreached)


def _stack(counts: Sequence[np.ndarray]) -> np.ndarray | None:
    return np.stack(counts) if counts else None


def _estimates(
    metrics: tuple[str, ...],
    layout: QuestionLayout,
    questions_fv: np.ndarray,
    right_nfv: np.ndarray,
    difference_nfv: np.ndarray | None,
    unreached: Collection[str],
) -> dict[str, MetricEstimate]:
    member_mf = layout.membership(metrics)
    questions_mv = member_mf @ questions_fv
    level = statistics.accuracy(_pool(member_mf, right_nfv), questions_mv)
    estimates = []
    for m in range(len(metrics)):
        estimates.append(MetricEstimate(mean=known(level.value[m]), low=known(level.low[m]), high=known(level.high[m])))
    if difference_nfv is not None:
        pooled_mnv = _pool(member_mf, difference_nfv)
        difference = statistics.estimate(pooled_mnv, questions_mv)
        seeds = difference_nfv.shape[0]
        flip = statistics.sign_flip(pooled_mnv.sum(-1)) if seeds >= statistics.LEAST_SEEDS else None
        estimates = [with_difference(estimate, difference, flip, m) for m, estimate in enumerate(estimates)]
    for m, metric in enumerate(metrics):
        if metric.split("/")[0] in unreached:
            estimates[m] = MetricEstimate(mean=estimates[m].mean, low=estimates[m].low, high=estimates[m].high, reached=False)
    return dict(zip(metrics, estimates, strict=True))


def _pool(member_mf: np.ndarray, counts_nfv: np.ndarray) -> np.ndarray:
    """Counts (n,F,V) summed over each metric's forms: (M,n,V)."""
    if (member_mf.sum(1) == 1).all():  # every metric is one form: nothing to sum
        return counts_nfv[:, member_mf.argmax(1)].swapaxes(0, 1)
    return np.stack([member_mf @ counts_fv for counts_fv in counts_nfv], axis=1)


def with_difference(estimate: MetricEstimate, difference: Estimate, flip: np.ndarray | None, m: int) -> MetricEstimate:
    """The estimate with entry `m` of a difference and of its sign-flip p."""
    return replace(
        estimate,
        delta=known(difference.value[m]),
        delta_low=known(difference.low[m]),
        delta_high=known(difference.high[m]),
        p=known(difference.p[m]),
        spread=difference.spread.at(m) if np.isfinite(difference.p[m]) else None,
        sign_flip=None if flip is None or not np.isfinite(difference.value[m]) else float(flip[m]),
    )


def number_estimate(mine: Mapping[int, float], base: Mapping[int, float] | None) -> MetricEstimate:
    """The estimate of a number that each run has one of, by seed, with plain t intervals over the seeds; base: the baseline's."""
    level = statistics.paired(np.array(list(mine.values())))
    estimate = MetricEstimate(mean=known(level.value), low=known(level.low), high=known(level.high))
    both = [seed for seed in mine if base is not None and seed in base]
    if base is None or not both:
        return estimate
    gaps = np.array([mine[seed] - base[seed] for seed in both])
    flip = statistics.sign_flip(gaps)[None] if gaps.size >= statistics.LEAST_SEEDS else None
    return with_difference(estimate, statistics.paired(gaps[None]), flip, 0)


def known(value: Any) -> float | None:
    """The number as a float; None for NaN and infinities."""
    return float(value) if np.isfinite(value) else None
