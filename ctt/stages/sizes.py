"""How many bytes a training state takes, from the shapes of its model: for estimates, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

FLOAT = 4
Shapes = Sequence[tuple[int, ...]]


def shapes_of(make: Callable[[], Any]) -> list[tuple[int, ...]]:
    """The shapes of a model's parameters. (It is really made: torch's meta device would import its compiler.)"""
    import torch

    with torch.random.fork_rng(devices=[]):
        return [tuple(parameter.shape) for parameter in make().parameters()]


def layers(depth: int, width: int, hidden: int) -> int:
    """Weights of so many transformer layers with a feed-forward part of `hidden`: four products of attention, two of that."""
    return depth * (4 * width * width + 2 * width * hidden)


def bytes_of_training(shapes: Shapes, muon: bool, averaged: bool) -> float:
    """Weights, an average of them, and one moment where Muon steps (matrices), two where Adam does."""
    weights = sum(math.prod(shape) for shape in shapes)
    moments = sum(math.prod(shape) * (1 if muon and len(shape) == 2 else 2) for shape in shapes)
    return float(FLOAT * (weights * (2 if averaged else 1) + moments))
