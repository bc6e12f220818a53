"""The minimum detectable difference: by hand where variances are known, and its power by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from ctt.report import detectable, statistics
from ctt.report.statistics import Spread
from tests.report.test_statistics import Simulation

VIDEOS = 60


def spread(seed: float = 4.0, video: float = 0.0, rest: float = 100.0, seeds: int = 6) -> Spread:
    return Spread(np.array(seed), np.array(video), np.array(rest), seeds, np.array(200.0))


def power(difference: float, se: float, df: float) -> float:
    quantile = stats.t.ppf(0.975, df)
    return float(stats.nct.sf(quantile, df, difference / se))


def test_a_well_known_variance_gives_the_difference_of_80_percent_power() -> None:
    noise = detectable.pooled([spread()], [(np.array(4.0), 100_000)])
    assert noise is not None
    expected = optimize.brentq(lambda d: power(d, np.sqrt(4 / 6), 5) - 0.8, 0.1, 10)
    found = detectable.smallest(noise)
    assert found.value == pytest.approx(expected, rel=1e-3)
    assert found.low == pytest.approx(expected, rel=0.01) and found.high == pytest.approx(expected, rel=0.01)


def test_a_variance_of_few_seeds_is_allowed_for_and_its_uncertainty_shown() -> None:
    """Average power over what the estimate may be, by numbers drawn from its distribution; the interval is the variance's own."""
    noise = detectable.pooled([spread(seeds=6)])
    assert noise is not None
    found, se = detectable.smallest(noise), np.sqrt(4 / 6)
    possible = np.sqrt(np.random.default_rng(0).chisquare(5, 4000) / 5)
    assert np.mean([power(float(found.value) * s, se, 5) for s in possible]) == pytest.approx(0.8, abs=0.01)
    exact = optimize.brentq(lambda d: power(d, se, 5) - 0.8, 0.1, 10)
    by_hand = [exact * np.sqrt(5 / stats.chi2.ppf(q, 5)) for q in (0.975, 0.025)]
    assert [found.low, found.high] == pytest.approx(by_hand, rel=1e-4)


def test_points_pool_with_the_freedom_that_a_shared_baseline_leaves() -> None:
    noise = detectable.pooled([spread(seed) for seed in (2.0, 4.0, 6.0)])
    assert noise is not None and noise.spread.seed == pytest.approx(4)
    rng = np.random.default_rng(1)
    runs = rng.standard_normal((4000, 4, 6))
    variances = (runs[:, 1:] - runs[:, :1]).var(-1, ddof=1).mean(1)
    assert noise.freedom == pytest.approx(2 * variances.mean() ** 2 / variances.var(), rel=0.1)


def test_more_seeds_detect_less_until_the_videos_remain() -> None:
    noise = detectable.pooled([spread(video=0.05)])
    assert noise is not None
    values = [float(detectable.smallest(noise.for_seeds(n)).value) for n in (3, 6, 12, 100, 5000)]
    assert values == sorted(values, reverse=True) and values[-1] > 2.8 * np.sqrt(0.05)
    needed = detectable.seeds_for(noise, 2.0)
    assert needed is not None
    assert detectable.smallest(noise.for_seeds(needed)).value <= 2.0 < detectable.smallest(noise.for_seeds(needed - 1)).value
    assert detectable.seeds_for(noise, 0.5) is None, "the videos alone vary by more"


def test_more_videos_leave_what_the_seeds_vary_by() -> None:
    noise = detectable.pooled([spread(seed=4.0, rest=200.0)])
    assert noise is not None
    more = noise.for_seeds(6, videos=1000.0)
    assert more.spread.seed == pytest.approx(4 - 200 / 200 + 200 / 1000)


@pytest.mark.parametrize("seeds", [3, 6, 12])
@pytest.mark.parametrize("points", [1, 4])
def test_it_is_found_four_times_in_five(seeds: int, points: int) -> None:
    """Sweeps of points that differ in nothing show a difference; how often a sweep in which it is true finds it, by simulation.

    Seeds alone move a run's accuracy by 1.6 points, about as much as trainings of ALOE do.
    """
    pilot = Simulation(400, seeds, VIDEOS, seed=41, by_seed=0.05)
    baseline = pilot.right(0.0)
    noise = detectable.pooled([statistics.estimate(pilot.right(0.0) - baseline, pilot.questions).spread for _ in range(points)])
    assert noise is not None
    shown = detectable.smallest(noise).value
    true, found = [], []
    for change in (*np.linspace(0, 0.4, 9), *np.linspace(0.5, 1.6, 8)):
        again = Simulation(500, seeds, VIDEOS, seed=42, by_seed=0.05)
        estimate = statistics.estimate(again.right(change) - again.right(0.0), again.questions)
        true.append(estimate.value.mean())
        found.append((estimate.p < 0.05).mean())

    assert 0.75 <= np.interp(shown, true, found).mean() <= 0.85
