"""What a sweep could detect, before it runs: from the noise of sweeps like it in the store, or from the demo's."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctt.core.errors import StoreError, UsageError
from ctt.core.settings import canonical_json
from ctt.core.units import count
from ctt.planning import Plan
from ctt.report import detectable
from ctt.report.demo_noise import VIDEOS, demo_noise
from ctt.report.detectable import PooledNoise
from ctt.report.statistics import LEAST_SEEDS
from ctt.report.tables import row_text
from ctt.report.tables.detectable_rows import noise_of
from ctt.report.tables.table import build
from ctt.store import Store
from ctt.study import loading, record

MOST_POINTS = 8
"""Points of a recorded sweep whose noise is read: more add little, and take time to read."""


@dataclass(frozen=True)
class Detection:
    """noise: by category; source: where it is from, in words; videos: of the planned sweep where the noise is of others."""

    noise: Mapping[str, PooledNoise]
    source: str
    seeds: int
    videos: float | None

    def differences(self, seeds: int) -> dict[str, tuple[float, float, float]]:
        """By category the minimum detectable difference of so many seeds, and the interval of what it estimates."""
        found = {name: detectable.smallest(noise.for_seeds(seeds, self.videos)) for name, noise in self.noise.items()}
        return {name: (float(one.value), float(one.low), float(one.high)) for name, one in found.items()}

    def seeds_for(self, difference: float) -> dict[str, int | None]:
        """By category how many seeds detect a difference; None: no number of seeds does."""
        return {name: detectable.seeds_for(noise, difference, self.videos) for name, noise in self.noise.items()}


def detection(plan: Plan, store: Store) -> Detection:
    """The noise that the plan's differences are expected to have."""
    best: tuple[float, str, dict[str, PooledNoise], int] | None = None
    for name in record.names(store):
        with contextlib.suppress(StoreError, UsageError):
            other = record.load(record.newest(store, name))
            if _kind(other) == _kind(plan) and (noise := measured_noise(other, store)):
                freedom = min(one.freedom for one in noise.values())
                if best is None or freedom > best[0]:
                    best = (freedom, name, noise, len(other.sweep.seeds))
    seeds = len(plan.sweep.seeds)
    if best is not None:
        _, name, noise, measured = best
        return Detection(noise, f"noise measured in this store (sweep {name}, {count(measured, 'seed')})", seeds, None)
    videos = float(plan.sweep.baseline.config.data.validation)
    others = " of retrained points; screened ones vary less" if _screened(plan) else ""
    text = f"the demo's noise{others} ({VIDEOS} videos, 3 seeds), for {videos:,.0f} videos; none like this sweep's is in the store"
    return Detection({name: one for name, one in demo_noise().items() if name in plan.categories.names}, text, seeds, videos)


def measured_noise(plan: Plan, store: Store) -> dict[str, PooledNoise]:
    """The noise of a recorded sweep's accuracies, by category; {} without a point of three seeds."""
    found = loading.results(plan, store, blind=False)
    kept = [i for i, point in enumerate(found.points) if point.baseline]
    kept += [i for i, point in enumerate(found.points) if not point.baseline][:MOST_POINTS]
    runs = [dataclasses.replace(run, point=kept.index(run.point)) for run in found.runs if run.point in kept]
    some = dataclasses.replace(found, points=[found.points[i] for i in kept], runs=runs, auxiliary=(), reference_levels={})
    table = build(some)
    noise = noise_of(table.rows, table.noise, _screened(plan))
    return {name: one for name, one in noise.items() if name in plan.categories.names}


def lines(found: Detection, difference: float | None) -> list[str]:
    """What `ctt plan` prints of it; difference: of --detect, in points."""
    if not found.noise:
        return []
    text = []
    if found.seeds >= LEAST_SEEDS:
        shown = [
            f"{name} {row_text.number(value)} ({row_text.number(low)} to {row_text.number(high)})"
            for name, (value, low, high) in found.differences(found.seeds).items()
        ]
        text.append(f"{row_text.DETECTABLE} with {count(found.seeds, 'seed')}, points: {', '.join(shown)}")
    else:
        text.append(f"with {count(found.seeds, 'seed')} no difference can be tested; it takes at least {LEAST_SEEDS}")
    if difference is not None:
        needed = found.seeds_for(difference)
        each = [f"{name} {'no number' if n is None else n}" for name, n in needed.items()]
        known = [n for n in needed.values() if n is not None]
        whole = f"{max(known)} for all" if len(known) == len(needed) else "videos alone vary by more where no number does"
        text.append(f"seeds that detect {difference:g} points (80 % power): {', '.join(each)}; {whole}")
    return [*text, f"  {found.source}"]


def numbers(found: Detection, difference: float | None) -> dict[str, Any]:
    """The same for `ctt plan --json`."""
    out: dict[str, Any] = {"source": found.source, "seeds": found.seeds, "points": {}}
    if found.noise and found.seeds >= LEAST_SEEDS:
        named = ("value", "low", "high")
        out["points"] = {
            name: {key: round(v, 3) for key, v in zip(named, values, strict=True)}
            for name, values in found.differences(found.seeds).items()
        }
    if difference is not None:
        out["seeds_for"] = {"difference": difference, **found.seeds_for(difference)}
    return out


def _kind(plan: Plan) -> str:
    """Equal for sweeps whose differences are expected to vary alike: the same data, ALOE and screening."""
    config = plan.sweep.baseline.config
    aloe = dataclasses.replace(config.aloe, aloe_seed=None)
    return canonical_json([plan.lines[0].data.key, aloe, _screened(plan)])


def _screened(plan: Plan) -> bool:
    """Whether the baseline's ALOE answers for every other point."""
    lines = [line for run, line in zip(plan.sweep.runs, plan.lines, strict=True) if not run.point.baseline]
    return bool(lines) and all(line.aloe_from is not None for line in lines)
