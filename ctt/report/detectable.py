"""The minimum detectable difference: what a comparison of so many seeds finds in about 80 % of its repetitions, at p < 0.05.

One point's variance of three seeds has two degrees of freedom and is known poorly, so the variance is pooled over the points of
a sweep (and over runs that differ in ALOE's seed alone). Points share the baseline's runs: their differences have a correlation
of 1/2 and their variances one of 1/4, so k points of n seeds have k (n − 1) / (1 + (k − 1)/4) degrees of freedom.

A difference δ is found with the probability that a noncentral t with noncentrality δ/σ exceeds the t test's quantile. σ is known
only up to its own degrees of freedom, so the difference is the multiple of the estimated σ that is found in 80 % of the
repetitions on average over what the estimate may be (the assurance of Spiegelhalter, Abrams and Myles 2004). Its interval, from the
chi-square distribution of the variance, is that of the difference that has 80 % power if σ were known. A variance between
videos below chance counts as 0 in each test, which widens the tests: so here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from ctt.report.statistics import LEAST_FREEDOM, LEAST_SEEDS, LEVEL, Spread, freedom

POWER = 0.80
MOST_SEEDS = 10_000
_VARIANCES_ALIKE = 0.25
_LARGEST = 37.0  # noncentrality; with a larger one a test of any degrees of freedom finds the difference
_QUANTILES = (np.arange(32) + 0.5) / 32


@dataclass(frozen=True)
class PooledNoise:
    """A pooled variance of a difference. clamped: of the videos' part, the mean of what the tests used; freedom: of `spread.seed`;
    points: the number of independent points it is worth."""

    spread: Spread
    clamped: np.ndarray
    freedom: float
    points: float

    def for_seeds(self, seeds: int, videos: float | None = None) -> PooledNoise:
        """The same for another number of seeds, and of videos with as many questions each."""
        was = self.spread
        now = was.videos if videos is None else np.asarray(videos, dtype=np.float64)
        seed = np.maximum(was.seed - was.rest / was.videos, 0.0) + was.rest / now if videos is not None else was.seed
        video = was.video * was.videos / now
        clamped = np.maximum(video, 0.0) + (self.clamped - np.maximum(was.video, 0.0)) * was.videos / now * was.seeds / seeds
        return replace(self, spread=Spread(seed, video, was.rest, seeds, now), clamped=clamped)


@dataclass(frozen=True)
class Detectable:
    """Minimum detectable differences and the 95 % intervals of what they estimate, in the unit of the differences."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def pooled(spreads: Sequence[Spread], others: Sequence[tuple[np.ndarray, int]] = ()) -> PooledNoise | None:
    """The noise that points compared with one baseline have in common; None without any of three seeds.

    others: variances of a single seed's difference measured otherwise, with their degrees of freedom.
    """
    spreads = [spread for spread in spreads if spread.seeds >= LEAST_SEEDS]
    if not spreads:
        return None
    weights = np.array([spread.seeds - 1.0 for spread in spreads])
    points = len(spreads) / (1 + (len(spreads) - 1) * _VARIANCES_ALIKE)
    known = float(weights.mean()) * points
    total = known + sum(of for _, of in others)
    seed = known * np.average([spread.seed for spread in spreads], axis=0, weights=weights)
    seed = (seed + sum(of * variance for variance, of in others)) / total
    video = np.average([spread.video for spread in spreads], axis=0, weights=weights)
    clamped = np.average([np.maximum(spread.video, 0.0) for spread in spreads], axis=0, weights=weights)
    rest = np.average([spread.rest for spread in spreads], axis=0, weights=weights)
    seeds = round(float(np.mean([spread.seeds for spread in spreads])))
    return PooledNoise(Spread(seed, video, rest, seeds, spreads[0].videos), clamped, total, points)


def smallest(noise: PooledNoise) -> Detectable:
    """The minimum detectable difference with the seeds of the noise's spread (see `PooledNoise.for_seeds`)."""
    spread = noise.spread
    deviation = np.sqrt(spread.seed / spread.seeds + noise.clamped)
    test = freedom(spread)
    own = np.maximum(freedom(spread, noise.freedom, noise.points), LEAST_FREEDOM)
    exact = _multiple(test, np.ones((*np.shape(test), 1)))
    tail = (1 - LEVEL) / 2
    low, high = (exact * deviation * np.sqrt(own / _chi_square(own, share)) for share in (1 - tail, tail))
    return Detectable(_multiple(test, _possible(own)) * deviation, low, high)


def seeds_for(noise: PooledNoise, difference: float, videos: float | None = None) -> int | None:
    """The fewest seeds whose minimum detectable difference is at most `difference`; None if MOST_SEEDS are too few."""

    def enough(seeds: int) -> bool:
        return bool(smallest(noise.for_seeds(seeds, videos)).value <= difference)

    if not enough(MOST_SEEDS):
        return None
    few, many = LEAST_SEEDS - 1, MOST_SEEDS
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many


def _possible(own: np.ndarray) -> np.ndarray:
    """What estimated deviations may be over the true one, in equal parts (…, 32)."""
    deviations: np.ndarray = np.sqrt(_chi_square(own[..., None], _QUANTILES) / own[..., None])
    return deviations


def _chi_square(df: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    quantile: np.ndarray = 2 * special.gammaincinv(np.asarray(df) / 2, share)
    return quantile


def _multiple(test: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """How many standard errors are found with POWER, on average over the possible estimates of one (…, m); by bisection."""
    quantile = special.stdtrit(test, 0.5 + LEVEL / 2)
    low, high = np.zeros_like(test), np.full_like(test, 1000.0)
    for _ in range(40):
        middle = (low + high) / 2
        at = np.minimum(middle[..., None] * possible, _LARGEST)
        missed = special.nctdtr(test[..., None], at, quantile[..., None])
        found = 1 - np.where(at < _LARGEST, np.nan_to_num(missed), 0.0).mean(-1)
        low, high = np.where(found < POWER, middle, low), np.where(found < POWER, high, middle)
    return np.asarray((low + high) / 2)
