"""Power: what a comparison could have detected, next to what was reported."""

from __future__ import annotations

from ctt.core.units import count
from ctt.data.categories import single
from ctt.report.published import Quoted
from ctt.report.tables import row_text
from ctt.report.tables.estimates import MetricEstimate
from ctt.report.tables.grid import Grid
from ctt.report.tables.layout import estimate_text
from ctt.report.tables.noise_row import NoiseRow
from ctt.report.tables.row import Row


def power_grid(row: Row, quote: Quoted, noise: NoiseRow | None = None, same_protocol: bool = True) -> Grid:
    """By category: the reported difference, ours, the minimum detectable one, and seed noise.

    noise: how far two single runs differ by ALOE's seed alone in 95 % of cases; the reported difference is of such a pair.
    same_protocol: whether the reported difference is of the same recipe; otherwise it is shown and not compared.
    """
    lines = []
    for category in single(list(row.estimates)):
        estimate, reported = row.estimates[category], quote.deltas.get(category)
        by_noise = None if noise is None else row_text.two_runs_apart(noise.deviation[category], noise.freedom)
        lines.append(
            (
                row_text.metric_name(category),
                row_text.signed(reported),
                estimate_text(estimate, "delta"),
                row_text.detectable(estimate),
                row_text.number(by_noise),
                _verdict(estimate, reported, same_protocol),
            )
        )
    header = ("category", "reported", "ours", row_text.DETECTABLE, "two single runs by noise", "conclusion")
    seeds = count(row.paired, "seed")
    return Grid(f"{row.label} against the baseline, {seeds} (points)", header, (tuple(lines),))


def _verdict(estimate: MetricEstimate, reported: float | None, same_protocol: bool) -> str:
    """How our interval compares with a reported difference."""
    if not estimate.reached:
        return "not reachable by this comparison"
    if estimate.delta_low is None or estimate.delta_high is None or estimate.smallest is None:
        return "too few seeds"
    finding = "worse" if estimate.delta_high < 0 else "better" if estimate.delta_low > 0 else "no evidence of a difference"
    if reported is None:
        return finding
    if not same_protocol:
        return f"{finding}; the reported one is of another protocol"
    if estimate.delta_low <= reported <= estimate.delta_high:
        return f"{finding}; the reported one is within our interval"
    return f"{finding}; the reported one is outside our interval"
