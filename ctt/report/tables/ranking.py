"""Ranking: how well one sweep's table predicts another's, point by point (screening against retraining)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np

from ctt.core.errors import UsageError
from ctt.report.tables import row_text
from ctt.report.tables.grid import Grid
from ctt.report.tables.table import Table

LEAST_POINTS = 3


@dataclass(frozen=True)
class Ranking:
    """Differences to the baseline of the points that both tables hold, in points, and their rank correlation.

    spearman, p: None with fewer than three points, or where all points of a table are equal. kept: of the best `top`
    points of the first table, how many are among the best `top` of the second.
    """

    metric: str
    labels: tuple[str, ...]
    first: tuple[float, ...]
    second: tuple[float, ...]
    spearman: float | None
    p: float | None
    top: int
    kept: int


def ranking(first: Table, second: Table, metric: str, top: int = 3) -> Ranking:
    """Compares the tables' differences in `metric`; points match by their swept values, or by their labels where they have none.

    Raises UsageError if they share no point that has a difference in both.
    """
    ours, theirs = _differences(first, metric), _differences(second, metric)
    shared = [key for key in ours if key in theirs]
    if not shared:
        raise UsageError(f"{first.sweep} and {second.sweep} share no point with a difference in {metric}")
    x = np.array([ours[key][1] for key in shared])
    y = np.array([theirs[key][1] for key in shared])
    spearman = p = None
    if len(shared) >= LEAST_POINTS and np.ptp(x) > 0 and np.ptp(y) > 0:
        from scipy import stats  # takes longer to import than a table to make

        found = stats.spearmanr(x, y)
        spearman, p = float(found.statistic), float(found.pvalue)
    top = min(top, len(shared))
    kept = len(set(np.argsort(-x, kind="stable")[:top]) & set(np.argsort(-y, kind="stable")[:top]))
    labels = tuple(ours[key][0] for key in shared)
    return Ranking(metric, labels, tuple(x.tolist()), tuple(y.tolist()), spearman, p, top, kept)


def ranking_grid(first: Table, second: Table, top: int = 3) -> Grid:
    """How well the first table ranks the points of the second, by metric; metrics without a shared difference are left out."""
    lines = []
    for metric in first.categories.metrics:
        with contextlib.suppress(UsageError):
            found = ranking(first, second, metric, top)
            rank = row_text.number(found.spearman, 2)
            kept = f"{found.kept} of {found.top}"
            lines.append((row_text.metric_name(metric), str(len(found.labels)), rank, row_text.p_value(found.p), kept))
    header = ("category", "points", "rank correlation", "p", f"best {top} in common")
    return Grid(f"{first.sweep} ranking {second.sweep}", header, (tuple(lines),) if lines else ())


def _differences(table: Table, metric: str) -> dict[str, tuple[str, float]]:
    """{identity: (label, difference)}; the identity is the swept values, which are the same in both sweeps."""
    out = {}
    for row in table.rows:
        estimate = row.estimates.get(metric)
        if estimate is not None and estimate.delta is not None and not row.baseline:
            identity = repr(sorted(row.values.items(), key=lambda item: item[0])) if row.values else row.label
            out[identity] = (row.label, estimate.delta)
    return out
