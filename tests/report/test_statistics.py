"""Statistics: hand computations, and simulations with questions clustered in videos."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from ctt.report import statistics
from ctt.report.tables.row_text import signed


def by_hand(counts: list[list[int]], questions: list[int]) -> dict[str, float]:
    """The formulas of the module's docstring with plain loops, over videos that have questions."""
    keep = [v for v, m in enumerate(questions) if m > 0]
    m = [questions[v] for v in keep]
    c = [[100 * row[v] for v in keep] for row in counts]
    n, videos = len(c), len(m)
    ratio = sum(map(sum, c)) / (n * sum(m))
    mean_m = sum(m) / videos
    z = [[ratio + (c[s][v] - ratio * m[v]) / mean_m for v in range(videos)] for s in range(n)]
    grand = sum(map(sum, z)) / (n * videos)
    seed = [sum(z[s]) / videos for s in range(n)]
    video = [sum(z[s][v] for s in range(n)) / n for v in range(videos)]
    ms_s = videos * sum((x - grand) ** 2 for x in seed) / (n - 1)
    ms_v = n * sum((x - grand) ** 2 for x in video) / (videos - 1)
    rest = [z[s][v] - seed[s] - video[v] + grand for s in range(n) for v in range(videos)]
    ms_e = sum(x**2 for x in rest) / ((n - 1) * (videos - 1))
    observations = n * videos
    positive = ms_v > ms_e
    variance = ms_s / observations + max(0, ms_v - ms_e) / observations
    below = (ms_s / observations) ** 2 / (n - 1)
    if positive:
        below += (ms_v / observations) ** 2 / (videos - 1) + (ms_e / observations) ** 2 / ((n - 1) * (videos - 1))
    df = max(1, variance**2 / below)
    se = variance**0.5
    t = stats.t(df)
    return {
        "value": ratio,
        "se": se,
        "df": df,
        "low": max(-100, ratio - t.ppf(0.975) * se),
        "high": min(100, ratio + t.ppf(0.975) * se),
        "p": 2 * t.sf(abs(ratio) / se),
    }


def test_mean_squares_that_cancel_still_give_an_interval() -> None:
    """The video term is a little above 0 here, so that Satterthwaite's degrees of freedom are 0.01 and the quantile 1e130."""
    estimate = statistics.estimate(np.array([[1, -1, -1, 0], [-1, 1, -1, 1], [1, 1, -1, -1]]), np.ones(4))
    assert estimate.df == 1 and estimate.high - estimate.value == pytest.approx(12.706 * estimate.se, rel=1e-4)
    assert signed(float(estimate.high)) == f"+{float(estimate.high):.1f}"


@pytest.mark.parametrize(
    ("counts", "questions"),
    [
        ([[1, 0, 2], [1, -1, 1], [0, 0, 2]], [2, 1, 3]),  # videos differ more than the rest: both terms count
        ([[1, 0, -1, 2], [-1, 1, 0, -2], [0, -1, 2, 1]], [2, 2, 2, 2]),  # the video term is negative and dropped
        ([[2, 0, 5, 0], [3, 0, 4, 1], [1, 0, 3, 0], [2, 0, 5, 1]], [4, 0, 6, 1]),  # a video without questions
    ],
)
def test_estimate_by_hand(counts: list[list[int]], questions: list[int]) -> None:
    estimate = statistics.estimate(np.array(counts), np.array(questions))
    for name, expected in by_hand(counts, questions).items():
        assert getattr(estimate, name) == pytest.approx(expected, rel=1e-9), name


def test_estimate_batches_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    questions = rng.integers(0, 4, (5, 12))
    counts = rng.integers(0, questions[:, None, :] + 1, (5, 4, 12))
    batch = statistics.estimate(counts, questions)
    for i in range(5):
        alone = statistics.estimate(counts[i], questions[i])
        assert batch.se[i] == pytest.approx(alone.se) and batch.df[i] == pytest.approx(alone.df)


def test_under_three_seeds_there_is_a_value_and_no_interval() -> None:
    estimate = statistics.estimate(np.array([[1, 2], [0, 2]]), np.array([2, 3]))
    assert estimate.value == pytest.approx(50.0)
    for found in (estimate, statistics.accuracy(np.array([[1, 2], [0, 2]]), np.array([2, 3]))):
        for name in ("se", "low", "high", "p"):
            assert np.isnan(getattr(found, name)), name


def test_no_difference_in_any_answer_gives_an_interval_of_zero_width() -> None:
    estimate = statistics.estimate(np.zeros((4, 6)), np.ones(6))
    assert (estimate.value, estimate.low, estimate.high, estimate.p) == (0, 0, 0, 1)


def wilson(share: float, answers: float, quantile: float) -> tuple[float, float]:
    """Both roots of (p − share)² = quantile² p (1 − p) / answers, in percent."""
    a, b, c = 1 + quantile**2 / answers, -(2 * share + quantile**2 / answers), share**2
    roots = np.sort(np.roots([a, b, c]).real)
    return 100 * float(roots[0]), 100 * float(roots[1])


@pytest.mark.parametrize(("counts", "questions"), [([[2, 0, 5, 0], [3, 0, 4, 1], [1, 0, 3, 0]], [4, 0, 6, 1])])
def test_an_accuracys_interval_holds_what_its_own_variance_would_not_reject(counts: list[list[int]], questions: list[int]) -> None:
    found, plain = statistics.accuracy(np.array(counts), np.array(questions)), by_hand(counts, questions)
    share = plain["value"] / 100
    answers = min(share * (1 - share) / (plain["se"] / 100) ** 2, 3 * sum(questions))
    assert (found.low, found.high) == pytest.approx(wilson(share, answers, stats.t.ppf(0.975, plain["df"])))
    assert found.value == pytest.approx(plain["value"]) and found.p == pytest.approx(plain["p"])


def test_where_every_answer_is_wrong_each_video_counts_as_one_answer() -> None:
    none, every = (statistics.accuracy(np.full((3, 60), right), np.ones(60)) for right in (0, 1))
    assert (none.low, none.high) == pytest.approx(wilson(0, 60, stats.norm.ppf(0.975)))
    assert (every.low, every.high) == pytest.approx((100 - none.high, 100))


def test_no_interval_leaves_what_is_possible() -> None:
    """Few questions, few seeds: t intervals would reach far outside."""
    rng = np.random.default_rng(0)
    right = rng.integers(0, 2, (200, 3, 4))
    found = statistics.accuracy(right, np.ones((200, 4)))
    assert (
        found.low.min() >= 0 and found.high.max() <= 100 and (found.low <= found.value).all() and (found.value <= found.high).all()
    )
    gaps = statistics.estimate(right - rng.integers(0, 2, (200, 3, 4)), np.ones((200, 4)))
    assert gaps.low.min() == -100 and gaps.high.max() == 100, "these few are cut off"


def test_one_video_leaves_the_seeds() -> None:
    estimate = statistics.estimate(np.array([[1], [3], [2]]), np.array([8]))
    expected = stats.t.ppf(0.975, 2) * np.std([12.5, 37.5, 25], ddof=1) / np.sqrt(3)
    assert estimate.high - estimate.value == pytest.approx(expected)


def test_paired_is_the_t_interval() -> None:
    gaps = [0.1, 0.4, 0.2, 0.3]
    estimate = statistics.paired(np.array(gaps))
    interval = stats.ttest_1samp(gaps, 0)
    assert estimate.p == pytest.approx(interval.pvalue)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(interval.confidence_interval()))


@pytest.mark.parametrize("seeds", [3, 5, 6])
def test_sign_flip_counts_the_patterns(seeds: int) -> None:
    gaps = np.random.default_rng(seeds).normal(0.5, 1, seeds)
    sums = [abs(np.dot(signs, gaps)) for signs in itertools.product((1, -1), repeat=seeds)]
    expected = np.mean([total >= abs(gaps.sum()) - 1e-12 for total in sums])
    assert statistics.sign_flip(gaps) == pytest.approx(expected)


def test_sign_flip_reaches_its_floor_and_no_less() -> None:
    for seeds in (3, 6, 10):
        assert statistics.sign_flip(np.ones(seeds)) == statistics.sign_flip_floor(seeds) == 2 / 2**seeds
    assert 0 < statistics.sign_flip(np.ones(40)) < 1e-4
    assert statistics.sign_flip(np.zeros(5)) == 1


def test_holm_by_hand() -> None:
    p = np.array([[0.01, np.nan, 0.04], [0.03, 0.005, 0.9]])
    adjusted = statistics.holm(p)
    assert np.isnan(adjusted[0, 1])
    np.testing.assert_allclose(adjusted[~np.isnan(p)], [0.04, 0.09, 0.09, 0.025, 0.9])
    assert statistics.holm(np.full((2, 2), np.nan)).shape == (2, 2)


def test_spread_pools_within_groups() -> None:
    deviation, freedom = statistics.pooled_deviation(
        [np.array([[1.0], [3.0]]), np.array([[10.0], [11.0], [12.0]]), np.ones((1, 1))]
    )
    assert freedom == 3 and deviation == pytest.approx(np.sqrt((2 + 2) / 3))
    assert np.isnan(statistics.pooled_deviation([np.ones((1, 2))])[0]).all()


# --- simulation: answers are 1 if a + video + question + seed + seed×video + noise > 0, so that every truth is Φ(…)

VIDEO, QUESTION, SEED, SEED_VIDEO, NOISE = 0.5, 0.7, 0.15, 0.3, 0.6
SHARED = VIDEO**2 + QUESTION**2
TOTAL = np.sqrt(SHARED + SEED**2 + SEED_VIDEO**2 + NOISE**2)


def truth(level: float) -> float:
    """The accuracy, percent, that the model has over all seeds, videos and questions."""
    return 100 * stats.norm.cdf(level / TOTAL)


class Simulation:
    """Replications of n seeds × V videos with 0 to 5 questions a video; runs share videos and questions, not seeds."""

    def __init__(self, replications: int, seeds: int, videos: int, seed: int, by_seed: float = SEED) -> None:
        self.by_seed = by_seed
        self.rng = np.random.default_rng([seed, seeds])
        self.shape = (replications, seeds, videos)
        self.questions = self.rng.integers(0, 6, (replications, videos))
        self.most = 5
        self.here = np.arange(self.most) < self.questions[..., None]
        normal = self.rng.standard_normal
        self.common = VIDEO * normal((replications, 1, videos, 1), np.float32)
        self.common = self.common + QUESTION * normal((replications, 1, videos, self.most), np.float32)

    def right(self, level: float) -> np.ndarray:
        """Right answers (replications, seeds, videos) of a model whose mean score is `level`."""
        replications, seeds, videos = self.shape
        normal = self.rng.standard_normal
        score = self.common + NOISE * normal((*self.shape, self.most), np.float32)
        score += self.by_seed * normal((replications, seeds, 1, 1), np.float32)
        score += SEED_VIDEO * normal((*self.shape, 1), np.float32)
        return ((score > -level) & self.here[:, None]).sum(-1)


def coverage(seeds: int, replications: int, level: float, change: float | None) -> float:
    """The share of intervals that hold the truth: of a level, or of the difference that `change` makes to it."""
    simulation = Simulation(replications, seeds, videos=60, seed=7)
    counts, expected = simulation.right(level), truth(level)
    if change is not None:
        counts, expected = simulation.right(level + change) - counts, truth(level + change) - expected
    of = statistics.accuracy if change is None else statistics.estimate
    estimate = of(counts, simulation.questions)
    return float(np.mean((estimate.low <= expected) & (expected <= estimate.high)))


@pytest.mark.parametrize(("seeds", "lowest", "highest"), [(3, 0.91, 0.98), (6, 0.93, 0.97), (10, 0.93, 0.97)])
@pytest.mark.parametrize("change", [None, 0.0, -0.25], ids=["level", "no difference", "difference"])
def test_intervals_cover(seeds: int, lowest: float, highest: float, change: float | None) -> None:
    covered = coverage(seeds, 4000, 0.3, change)
    assert lowest <= covered <= highest


@pytest.mark.parametrize("seeds", [3, 6, 10])
@pytest.mark.parametrize("level", [-4.0, -3.2, -2.6, -2.0, 2.6, 3.2])
def test_intervals_cover_near_0_and_100(seeds: int, level: float) -> None:
    """Rates of 0.01, 0.2, 0.9, 3.5, 99.1 and 99.8 %; t intervals cover 6 to 90 % of the two smallest."""
    assert 0.915 <= coverage(seeds, 1500, level, None) <= 1


def test_family_wise_false_alarms() -> None:
    """A/A: 4 points × 4 categories against one baseline, nothing differs; Holm keeps any alarm at 5 %."""
    replications, seeds, videos = 1000, 6, 40
    alarms = np.zeros(replications, dtype=bool)
    p = np.empty((replications, 4, 4))
    for category in range(4):
        simulation = Simulation(replications, seeds, videos, seed=20 + category)
        baseline = simulation.right(0.2)
        for point in range(4):
            p[:, point, category] = statistics.estimate(simulation.right(0.2) - baseline, simulation.questions).p
    unadjusted = (p < 0.05).any((1, 2))
    for r in range(replications):
        alarms[r] = (statistics.holm(p[r]) < 0.05).any()
    error = 2 * np.sqrt(0.05 * 0.95 / replications)
    assert alarms.mean() <= 0.05 + error
    assert unadjusted.mean() > 0.2, "without Holm there must be many more alarms, or the simulation proves nothing"
