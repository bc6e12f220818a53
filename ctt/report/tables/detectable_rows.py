"""Minimum detectable differences of a table's rows, from variances pooled over the rows.

Rows are pooled with those that were made the same way: screened rows, whose ALOE is the baseline's, vary far less than retrained
ones, and weights of a file share no training with the baseline. Runs that differ in ALOE's seed alone (A/A) add to the variance
of retrained rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ctt.report import detectable
from ctt.report.detectable import PooledNoise
from ctt.report.statistics import LEAST_SEEDS, Spread
from ctt.report.tables.estimates import MetricEstimate, known
from ctt.report.tables.noise_row import NoiseRow
from ctt.report.tables.row import SCREENED, Row

Place = tuple[str, str, str]
"""How a row was made, the group of its estimates, and their name."""
RETRAINED = "retrained"


def with_detectable(rows: Sequence[Row], noise: Sequence[NoiseRow]) -> list[Row]:
    """The rows with the minimum detectable difference of every estimate that has a tested difference."""
    spreads = _spreads(rows)
    pooled = {place: detectable.pooled(found, _others(place, noise)) for place, found in spreads.items()}
    seen: dict[tuple[Place, int], tuple[float | None, float | None, float | None]] = {}

    def filled(row: Row, group: str, estimates: Mapping[str, MetricEstimate]) -> dict[str, MetricEstimate]:
        out = dict(estimates)
        for name, estimate in estimates.items():
            if (spread := estimate.spread) is None:
                continue
            place = (_made(row), group, name)
            if (place, spread.seeds) not in seen:
                seen[place, spread.seeds] = _numbers(pooled.get(place), spread.seeds)
            value, low, high = seen[place, spread.seeds] if _varies(spread) else (0.0, 0.0, 0.0)
            out[name] = replace(estimate, smallest=value, smallest_low=low, smallest_high=high)
        return out

    return [
        replace(
            row,
            estimates=filled(row, "estimates", row.estimates),
            options=filled(row, "options", row.options),
            forms=filled(row, "forms", row.forms),
            errors=filled(row, "errors", row.errors),
            auxiliary={kind: filled(row, f"auxiliary {kind}", found) for kind, found in row.auxiliary.items()},
        )
        for row in rows
    ]


def noise_of(rows: Sequence[Row], noise: Sequence[NoiseRow], screened: bool) -> dict[str, PooledNoise]:
    """The pooled noise of the rows' accuracies, by metric."""
    found = {}
    made = SCREENED if screened else RETRAINED
    for (of, group, name), spreads in _spreads(rows).items():
        place = (of, group, name)
        if of == made and group == "estimates" and (one := detectable.pooled(spreads, _others(place, noise))):
            found[name] = one
    return found


def _spreads(rows: Sequence[Row]) -> dict[Place, list[Spread]]:
    found = defaultdict[Place, list[Spread]](list)
    for row in rows:
        for group, estimates in _groups(row):
            for name, estimate in estimates.items():
                if estimate.spread is not None and _varies(estimate.spread):
                    found[_made(row), group, name].append(estimate.spread)
    return found


def _made(row: Row) -> str:
    if SCREENED in row.marks:
        return SCREENED
    return "of a file" if row.values.get("world_model.checkpoint") or row.values.get("aloe.checkpoint") else RETRAINED


def _groups(row: Row) -> Iterator[tuple[str, Mapping[str, MetricEstimate]]]:
    for group in ("estimates", "options", "forms", "errors"):
        yield group, getattr(row, group)
    for kind, estimates in row.auxiliary.items():
        yield f"auxiliary {kind}", estimates


def _others(place: Place, noise: Sequence[NoiseRow]) -> Sequence[tuple[np.ndarray, int]]:
    """The variance of the difference of two runs by ALOE's seed alone."""
    made, group, name = place
    if made != RETRAINED or group != "estimates":
        return ()
    known_ones = [(row.deviation.get(name), row.freedom) for row in noise]
    return [(np.asarray(2.0 * deviation**2), freedom) for deviation, freedom in known_ones if deviation is not None and freedom > 0]


def _varies(spread: Spread) -> bool:
    return bool(spread.seed > 0 or spread.rest > 0)


def _numbers(noise: PooledNoise | None, seeds: int) -> tuple[float | None, float | None, float | None]:
    if noise is None or seeds < LEAST_SEEDS:
        return (None, None, None)
    found = detectable.smallest(noise.for_seeds(seeds))
    return known(found.value), known(found.low), known(found.high)
