"""The size of a training state in bytes, from the shapes of its model: for estimates before anything runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

FLOAT = 4
Shapes = Sequence[tuple[int, ...]]


def shapes_of(make: Callable[[], Any]) -> list[tuple[int, ...]]:
    """The shapes of a model's parameters. (The model is created, since torch's meta device would import its compiler.)"""
    import torch

    with torch.random.fork_rng(devices=[]):
        return [tuple(parameter.shape) for parameter in make().parameters()]


def layers(depth: int, width: int, hidden: int) -> int:
    """Number of weights of `depth` transformer layers: four matrices of attention, two of the feed-forward part."""
    return depth * (4 * width * width + 2 * width * hidden)


def bytes_of_training(shapes: Shapes, muon: bool, averaged: bool) -> float:
    """Weights, their average, and the optimizer's moments: one for matrices under Muon, two under Adam."""
    weights = sum(math.prod(shape) for shape in shapes)
    moments = sum(math.prod(shape) * (1 if muon and len(shape) == 2 else 2) for shape in shapes)
    return float(FLOAT * (weights * (2 if averaged else 1) + moments))
