"""Running counts that a sampler steers by: how far from wanted shares, and from as many right as wrong."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any


class Shares:
    """Counts of values beside the shares they should have."""

    def __init__(self, targets: Mapping[Any, float]) -> None:
        self._targets = dict(targets)
        self._counts: dict[Any, int] = defaultdict(int)
        self._total = 0

    def excess(self, value: Any) -> float:
        """How much more often than wanted `value` came, in standard deviations of a fair draw; lower is more due."""
        expected = self._targets.get(value, 0.0) * self._total
        return (self._counts[value] - expected) / math.sqrt(1.0 + expected)

    def add(self, value: Any) -> None:
        self._counts[value] += 1
        self._total += 1


class Evenness:
    """For each cell how many more were right than wrong."""

    def __init__(self) -> None:
        self._surplus: dict[str, int] = defaultdict(int)
        self._count: dict[str, int] = defaultdict(int)
        self._worth: dict[str, float] = {}

    def cost(self, cells: Iterable[str], right: bool) -> float:
        """Mean over cells of their surplus, in standard deviations, towards `right`; lower is more due."""
        worth = [self._worth.get(cell, 0.0) for cell in cells]
        mean = sum(worth) / max(len(worth), 1)
        return mean if right else -mean

    def add(self, cells: Iterable[str], right: bool) -> None:
        for cell in cells:
            self._surplus[cell] += 1 if right else -1
            self._count[cell] += 1
            self._worth[cell] = self._surplus[cell] / math.sqrt(1.0 + self._count[cell])
