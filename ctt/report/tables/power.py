"""Power: what a comparison could have seen, beside what was reported."""

from __future__ import annotations

from ctt.report.published import Quoted
from ctt.report.results import CATEGORIES
from ctt.report.tables import row_text
from ctt.report.tables.estimates import MetricEstimate
from ctt.report.tables.layout import Grid, estimate_text
from ctt.report.tables.noise_row import NoiseRow
from ctt.report.tables.table import Row


def power_grid(row: Row, quote: Quoted, noise: NoiseRow | None = None) -> Grid:
    """By category: the difference reported, ours, the smallest that these seeds could have shown, and noise alone.

    noise: how far two single runs lie apart by ALOE's seed alone, 19 times in 20: what was reported is such a pair.
    """
    lines = []
    for category in CATEGORIES:
        estimate, reported = row.estimates[category], quote.deltas.get(category)
        apart = None if noise is None else row_text.two_runs_apart(noise.deviation[category], noise.freedom)
        lines.append(
            (
                row_text.METRIC_NAMES[category],
                row_text.signed(reported),
                estimate_text(estimate, "delta"),
                row_text.number(estimate.smallest),
                row_text.number(apart),
                _verdict(estimate, reported),
            )
        )
    header = ("category", "reported", "ours", "could have shown", "two single runs by noise", "so")
    seeds = row_text.count(row.paired, "seed")
    return Grid(f"{row.label} against the baseline, {seeds} (points)", header, (tuple(lines),))


def _verdict(estimate: MetricEstimate, reported: float | None) -> str:
    """What our interval says about a reported difference."""
    if not estimate.reached:
        return "this comparison cannot reach it"
    if estimate.delta_low is None or estimate.delta_high is None or estimate.smallest is None:
        return "too few seeds to say"
    sign = "worse" if estimate.delta_high < 0 else "better" if estimate.delta_low > 0 else "no evidence of a difference"
    if reported is None:
        return sign
    if estimate.delta_low <= reported <= estimate.delta_high:
        return f"{sign}; the reported one is possible too"
    return f"{sign}; the reported one is outside our interval"
