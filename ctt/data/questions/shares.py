"""Running counts that guide the sampler: towards target shares, and towards as many correct as wrong choices."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any


class Shares:
    """Counts of values and their target shares."""

    def __init__(self, targets: Mapping[Any, float]) -> None:
        self._targets = dict(targets)
        self._counts: dict[Any, int] = defaultdict(int)
        self._total = 0

    def excess(self, value: Any) -> float:
        """How much more often than targeted `value` was counted, in standard deviations; the lowest comes next."""
        expected: float = self._targets.get(value, 0.0) * self._total
        return (self._counts[value] - expected) / math.sqrt(1.0 + expected)

    def add(self, value: Any) -> None:
        self._counts[value] += 1
        self._total += 1


class Evenness:
    """Per group, the surplus of correct over wrong choices."""

    def __init__(self) -> None:
        self._surplus: dict[str, int] = defaultdict(int)
        self._count: dict[str, int] = defaultdict(int)
        self._scores: dict[str, float] = {}

    def cost(self, groups: Iterable[str], right: bool) -> float:
        """Mean surplus of the groups towards `right`, in standard deviations; the lowest comes next."""
        scores = [self._scores.get(group, 0.0) for group in groups]
        mean = sum(scores) / max(len(scores), 1)
        return mean if right else -mean

    def add(self, groups: Iterable[str], right: bool) -> None:
        for group in groups:
            self._surplus[group] += 1 if right else -1
            self._count[group] += 1
            self._scores[group] = self._surplus[group] / math.sqrt(1.0 + self._count[group])
