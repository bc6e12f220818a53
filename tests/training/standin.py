"""A tiny data set in memory, with the interface that training uses: its slots move in straight lines."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from ctt.core.errors import DataError

WIDTH, SLOTS, GIVEN, TOTAL = 16, 7, 30, 62


def split(videos: int, seed: int, *, truth: bool = True) -> SimpleNamespace:
    rng = np.random.default_rng(seed)
    start, speed = rng.normal(size=(2, videos, 1, SLOTS, WIDTH))
    frames = (start + speed * 0.05 * np.arange(TOTAL)[:, None, None]).astype(np.float32)
    visible = rng.random((videos, TOTAL, SLOTS)) < 0.8
    return _Split(slots=frames[:, :GIVEN], future=frames[:, GIVEN:] if truth else None, visible=visible if truth else None)


class _Split(SimpleNamespace):
    """Raises DataError for attributes that are not set."""

    def __getattr__(self, name: str) -> None:
        raise DataError(f"this split has no {name}")


class StandIn:
    """A data set: `splits`, `split(name)` and `has_truth`."""

    def __init__(self, *, train: int = 12, validation: int = 5, truth: bool = True) -> None:
        self._splits = {"train": split(train, 1, truth=truth), "validation": split(validation, 2, truth=truth)}
        self.splits = tuple(self._splits)
        self.has_truth = False

    def split(self, name: str) -> SimpleNamespace:
        return self._splits[name]
