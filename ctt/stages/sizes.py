"""The size of a training state in bytes, from those of its model: estimates before anything runs, without importing torch."""

from __future__ import annotations

FLOAT = 4
PROJECTED = 2500
"""Rows, of ALOE's width, of what is neither attention nor feed-forward: words, frames, answers; 800 with `tokens=frames`."""


def layers(depth: int, width: int, hidden: int) -> int:
    """Number of weights of `depth` transformer layers: four matrices of attention, two of the feed-forward part."""
    return depth * (4 * width * width + 2 * width * hidden)


def bytes_of_training(weights: int, muon: bool, averaged: bool) -> float:
    """Weights, their average, and the optimizer's moments: two under Adam, one under Muon, since nearly all are matrices."""
    return float(FLOAT * weights * ((2 if averaged else 1) + (1 if muon else 2)))
