"""Statistics of accuracies over n seeds × V videos, with questions clustered in videos.

Right answers c_sv (or differences of right answers) and numbers of questions m_v give the accuracy
R = Σ c / (n Σ m), a ratio of two sums. Its error is that of the mean of z_sv = R + (c_sv − R m_v) / m̄ (the ratio
estimator's linearisation, m̄ the mean of m over videos that have questions). With the mean squares of the two-way
table z:

    Var = MS_seed/(nV) + max(0, MS_video − MS_resid)/(nV)
    df  = Var² / [(MS_s/nV)²/(n−1) + 1{video term > 0} ((MS_v/nV)²/(V−1) + (MS_e/nV)²/((n−1)(V−1)))]

(Satterthwaite's approximation; never below LEAST_FREEDOM: where MS_video and MS_resid almost cancel it goes to 0, and the
quantile overflows), from which a t interval of a difference, never outside −100 to 100, and a p follow.

The interval of an accuracy is Wilson's with the t quantile and the effective number of answers R (1 − R) / Var (Franco, Little,
Louis and Slud 2019, J. Surv. Stat. Methodol. 7, 334): it lies within 0 to 100, and covers near both ends, where a t interval
has width 0 as soon as every answer is wrong. Without any variance a video counts as one answer, since questions of a video
are not independent. All functions take leading batch axes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

LEAST_SEEDS = 3
"""With fewer seeds there is no interval and no p: the variance between seeds is not known."""

LEAST_FREEDOM = 1.0
LEVEL = 0.95
_EXACT_FLIPS = 15
_SAMPLED_FLIPS = 1 << 15


@dataclass(frozen=True)
class Spread:
    """The variance of a mean over `seeds` seeds and `videos` videos, in parts: it is seed/seeds + max(0, video).

    seed: of one seed's mean over the videos; video: of the videos' means over all seeds, negative where they differ less than
    chance; rest: of one seed in one video. Arrays of one batch shape, in squared units of the value.
    """

    seed: np.ndarray
    video: np.ndarray
    rest: np.ndarray
    seeds: int
    videos: np.ndarray

    def at(self, place: int) -> Spread:
        """One entry of a batch of one axis."""
        return Spread(self.seed[place], self.video[place], self.rest[place], self.seeds, np.asarray(self.videos)[place])


@dataclass(frozen=True)
class Estimate:
    """Percent and its uncertainty; arrays of one batch shape. NaN where fewer than LEAST_SEEDS seeds, or no questions.

    value, se: percent (points for differences); low, high: the 95 % interval; p: two-sided, of value = 0; spread: what the
    variance is made of, from which the minimum detectable difference is computed (ctt/report/detectable.py).
    """

    value: np.ndarray
    se: np.ndarray
    df: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    spread: Spread


def estimate(counts: np.ndarray, questions: np.ndarray) -> Estimate:
    """A difference of accuracies in points with its t interval: `counts` (…,n,V) right answers less the other run's,
    `questions` (…,V).

    Videos without questions (and so without right answers) have no effect; one video alone has no variance between videos.
    """
    value, spread = _moments(np.asarray(counts, dtype=np.float64), np.asarray(questions, dtype=np.float64))
    found = _interval(value, spread)
    return replace(found, low=np.maximum(found.low, -100.0), high=np.minimum(found.high, 100.0))


def accuracy(counts: np.ndarray, questions: np.ndarray) -> Estimate:
    """An accuracy in percent with its interval within 0 to 100: `counts` (…,n,V) right answers, `questions` (…,V)."""
    counts, questions = np.asarray(counts, dtype=np.float64), np.asarray(questions, dtype=np.float64)
    value, spread = _moments(counts, questions)
    found = _interval(value, spread)
    if spread.seeds < LEAST_SEEDS:
        return found
    share, variance = value / 100.0, (found.se / 100.0) ** 2
    answers = spread.seeds * questions.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        known = variance > 0
        effective = np.where(known, np.minimum(share * (1 - share) / variance, answers), spread.videos)
        quantile = np.where(known, special.stdtrit(found.df, 0.5 + LEVEL / 2), special.ndtri(0.5 + LEVEL / 2))
        weight = quantile**2 / effective
        middle = (share + weight / 2) / (1 + weight)
        half = np.sqrt(weight * share * (1 - share) + weight**2 / 4) / (1 + weight)
        low, high = np.maximum(0.0, middle - half), np.minimum(1.0, middle + half)
    return replace(found, low=100.0 * np.where(share <= 0, 0.0, low), high=100.0 * np.where(share >= 1, 1.0, high))


def _moments(counts: np.ndarray, questions: np.ndarray) -> tuple[np.ndarray, Spread]:
    """The accuracy in percent, and the parts of its variance (NaN with fewer than LEAST_SEEDS seeds)."""
    seeds = counts.shape[-2]
    videos = (questions > 0).sum(-1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        per_seed = 100.0 * counts.sum(-1) / questions.sum(-1)[..., None]
        value = per_seed.mean(-1)
        if seeds < LEAST_SEEDS:
            nan = np.full_like(value, np.nan)
            return value, Spread(nan, nan, nan, seeds, videos)
        # z − R, up to the factor 1/m̄; a video without questions has no answers either, so it adds 0 to every sum
        unscaled = counts - (value / 100.0)[..., None, None] * questions[..., None, :]
        scale = (100.0 * videos / questions.sum(-1)) ** 2
        seed_squares = videos * ((per_seed - value[..., None]) ** 2).sum(-1)
        video_squares = seeds * scale * (unscaled.mean(-2) ** 2).sum(-1)
        squares = scale * np.einsum("...nv,...nv->...", unscaled, unscaled)
        several = videos > 1
        ms_seed = seed_squares / (seeds - 1)
        ms_video = np.where(several, video_squares / (videos - 1), 0.0)
        rest_squares = np.maximum(0.0, squares - seed_squares - video_squares)
        ms_rest = np.where(several, rest_squares / ((seeds - 1) * (videos - 1)), 0.0)
        return value, Spread(ms_seed / videos, (ms_video - ms_rest) / (seeds * videos), ms_rest, seeds, videos)


def over_videos(counts: np.ndarray, questions: np.ndarray) -> Estimate:
    """`estimate` of one run (…,V), where seeds are too few to be random: the t interval over videos alone."""
    counts, questions = np.asarray(counts, dtype=np.float64), np.asarray(questions, dtype=np.float64)
    videos = (questions > 0).sum(-1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = counts.sum(-1) / questions.sum(-1)
        scale = 100.0 * videos / questions.sum(-1)
        squares = ((counts - share[..., None] * questions) ** 2).sum(-1)
        variance = np.where(videos > 1, scale**2 * squares / (videos * (videos - 1)), np.nan)
        half = special.stdtrit(np.maximum(videos - 1, 1), 0.5 + LEVEL / 2) * np.sqrt(variance)
        p = 2 * special.stdtr(np.maximum(videos - 1, 1), -np.abs(100.0 * share) / np.sqrt(variance))
    value = 100.0 * share
    nothing = np.zeros_like(value)
    spread = Spread(nothing, variance, nothing, 1, videos)
    return Estimate(value, np.sqrt(variance), videos - 1, value - half, value + half, p, spread)


def freedom(spread: Spread, seeds_freedom: np.ndarray | float | None = None, points: float = 1.0) -> np.ndarray:
    """Degrees of freedom of a variance (Satterthwaite), at least LEAST_FREEDOM.

    seeds_freedom: those of `spread.seed`, by default seeds − 1; points: the number of independent points that it is pooled over.
    """
    seeds, videos = spread.seeds, np.asarray(spread.videos, dtype=np.float64)
    of_seeds = np.asarray(seeds - 1.0 if seeds_freedom is None else seeds_freedom)
    from_seeds, from_videos = spread.seed / seeds, np.maximum(0.0, spread.video)
    observations = seeds * videos
    with np.errstate(divide="ignore", invalid="ignore"):
        video_parts = ((observations * spread.video + spread.rest) / observations) ** 2 / (videos - 1)
        video_parts += (spread.rest / observations) ** 2 / ((seeds - 1) * (videos - 1))
        parts = from_seeds**2 / of_seeds + np.where(from_videos > 0, video_parts / points, 0.0)
        variance = from_seeds + from_videos
        return np.where(variance > 0, np.maximum(LEAST_FREEDOM, variance**2 / parts), of_seeds)


def paired(differences: np.ndarray) -> Estimate:
    """The plain t interval of numbers (…,n), one for each seed, in their own unit (errors, for example)."""
    differences = np.asarray(differences, dtype=np.float64)
    seeds, value = differences.shape[-1], differences.mean(-1)
    nothing = np.zeros_like(value)
    variance = differences.var(-1, ddof=1) if seeds >= LEAST_SEEDS else np.full_like(value, np.nan)
    return _interval(value, Spread(variance, nothing, nothing, seeds, np.ones_like(value)))


def _interval(value: np.ndarray, spread: Spread) -> Estimate:
    if spread.seeds < LEAST_SEEDS:
        nan = np.full_like(value, np.nan)
        return Estimate(value, nan, nan, nan, nan, nan, spread)
    df = freedom(spread)
    se = np.sqrt(spread.seed / spread.seeds + np.maximum(0.0, spread.video))
    half = special.stdtrit(df, 0.5 + LEVEL / 2) * se
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(value == 0, 0.0, np.abs(value) / se)
    return Estimate(value, se, df, value - half, value + half, 2 * special.stdtr(df, -t), spread)


def sign_flip(per_seed: np.ndarray) -> np.ndarray:
    """Two-sided sign-flip p of paired differences (…,n): the share of sign patterns whose sum is at least as far from 0.

    Exact up to 15 seeds, so never below 2/2^n; with more seeds from a fixed sample of patterns.
    """
    per_seed = np.asarray(per_seed, dtype=np.float64)
    seeds = per_seed.shape[-1]
    exact = seeds <= _EXACT_FLIPS
    if exact:  # a pattern and its negative are equally far from 0: half of the patterns are enough
        patterns = np.arange(1 << (seeds - 1))
        signs = 1.0 - 2.0 * ((patterns[:, None] >> np.arange(seeds)) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(_SAMPLED_FLIPS, seeds))
    tolerance = 1e-9 * np.abs(per_seed).sum(-1)
    observed = np.abs(per_seed.sum(-1)) - tolerance
    reached = (np.abs(per_seed @ signs.T) >= observed[..., None]).sum(-1)
    p: np.ndarray = reached / len(signs) if exact else (reached + 1) / (len(signs) + 1)
    return p


def sign_flip_floor(seeds: int) -> float:
    """The smallest p that the sign-flip test can give with n seeds: 2/2^n."""
    return 2.0 / float(2**seeds)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment over all finite entries of `p` (any shape), as one family. NaN stays NaN."""
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    known = np.isfinite(p)
    raw = p[known]
    order = np.argsort(raw, kind="stable")
    stepped = np.maximum.accumulate(raw[order] * np.arange(raw.size, 0, -1)) if raw.size else raw
    values = np.empty_like(raw)
    values[order] = np.minimum(1.0, stepped)
    adjusted[known] = values
    return adjusted


def pooled_deviation(values: list[np.ndarray]) -> tuple[np.ndarray, int]:
    """Pooled standard deviation within groups of repeated measurements (k_g, …), and its degrees of freedom.

    Groups of one are left out; without a group of two or more the deviation is NaN and the freedom 0.
    """
    useful = [np.asarray(group, dtype=np.float64) for group in values if len(group) > 1]
    freedom = sum(len(group) - 1 for group in useful)
    if not freedom:
        shape = np.asarray(values[0]).shape[1:] if values else ()
        return np.full(shape, np.nan), 0
    squares = sum(((group - group.mean(0)) ** 2).sum(0) for group in useful)
    return np.sqrt(squares / freedom), freedom
