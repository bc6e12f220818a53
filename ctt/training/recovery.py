"""How well a score recovers true entries: two areas under curves, computed from ranks."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def auroc(score: np.ndarray, truth: np.ndarray) -> float | None:
    """Probability that a true entry scores higher than a false one, ties counting half; None if one kind is missing."""
    score, truth = score.ravel(), truth.ravel().astype(bool)
    true, false = int(truth.sum()), int((~truth).sum())
    if not true or not false:
        return None
    return float((rankdata(score)[truth].sum() - true * (true + 1) / 2) / (true * false))


def average_precision(score: np.ndarray, truth: np.ndarray) -> float | None:
    """Precision averaged over the true entries, each at its own score; equal scores count together. None if none is true."""
    score, truth = score.ravel(), truth.ravel().astype(bool)
    if not truth.any():
        return None
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)  # the last entry of each score
    found, taken = np.cumsum(truth[order])[last], np.flatnonzero(last) + 1
    return float((np.diff(found, prepend=0) * found / taken).sum() / truth.sum())
