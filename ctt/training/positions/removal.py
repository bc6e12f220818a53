"""Which objects the removal of one of them reaches, and from which frame on.

The removed object is reached from the first frame on. In each frame:

touch    an object that touches a reached one in the video as it was, or comes within reach of a reached one, the removed one
         aside, in the imagined video; two objects touch at the distance of their shapes that the reader fitted
graph    an object whose slot depends on a reached one's, by the run's own slot graph of the window at its threshold
oracle   an object whose true path without the removed object leaves its true path with it (synthetic data)
all      every object

touch is the default; by the others one sees what the answers owe to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from ctt.data.positions.descendants import reach_of_pairs, touching
from ctt.data.positions.linear_reader import LinearPositionReader
from ctt.data.positions.objects import SlotObjects
from ctt.data.synthetic.truth import Truth
from ctt.training.slot_graphs import StateGraphs

DEPARTED = 1e-3
"""From which distance on two true paths are two, in the units of positions: far above rounding, far below an object's size."""


class Reached(Protocol):
    """Who is reached in B videos, frame after frame."""

    def step(self, frame: int, imagined: np.ndarray, reached: np.ndarray) -> np.ndarray:
        """Who is reached after the frame, bool (B,6); imagined (B,6,2): positions there, NaN for the removed object; reached
        (B,6): before it, the removed object included."""


class Reach(Protocol):
    """One of the ways above."""

    def begin(self, slots: np.ndarray, position: np.ndarray, videos: np.ndarray, removed: np.ndarray) -> Reached:
        """For videos (B,) without the objects `removed` (B,); nothing removed yet: slots (B,F+N,S,D) float32, given and rolled
        out, and positions (B,F+N,6,2) read from them."""


@dataclass(frozen=True)
class Touch:
    """By positions, read from slots."""

    reader: LinearPositionReader
    objects: SlotObjects

    def begin(self, slots: np.ndarray, position: np.ndarray, videos: np.ndarray, removed: np.ndarray) -> Reached:
        far = reach_of_pairs(self.reader, self.objects.shape[videos])
        return _Touching(position, far)


@dataclass(frozen=True)
class _Touching:
    factual: np.ndarray  # (B,F+N,6,2)
    reach: np.ndarray  # (B,6,6), -inf for pairs that cannot touch

    def step(self, frame: int, imagined: np.ndarray, reached: np.ndarray) -> np.ndarray:
        met = touching(self.factual[:, frame], self.reach) | touching(imagined, self.reach)
        return np.asarray(reached | (met & reached[:, :, None]).any(1))


@dataclass(frozen=True)
class Oracle:
    """By the simulator."""

    truth: Truth

    def begin(self, slots: np.ndarray, position: np.ndarray, videos: np.ndarray, removed: np.ndarray) -> Reached:
        frames = slots.shape[1]
        alone = np.stack([self.truth.without_position[video, k, :frames] for video, k in zip(videos, removed, strict=True)])
        apart = np.linalg.norm(alone.astype(np.float64) - self.truth.position[videos, :frames], axis=-1)
        return _Departing(np.nan_to_num(apart, nan=0.0) > DEPARTED)


@dataclass(frozen=True)
class _Departing:
    departed: np.ndarray  # (B,F+N,6) bool

    def step(self, frame: int, imagined: np.ndarray, reached: np.ndarray) -> np.ndarray:
        return np.asarray(reached | self.departed[:, frame])


class Everybody:
    """Every object, from the first frame on."""

    def begin(self, slots: np.ndarray, position: np.ndarray, videos: np.ndarray, removed: np.ndarray) -> Reached:
        return self

    def step(self, frame: int, imagined: np.ndarray, reached: np.ndarray) -> np.ndarray:
        return np.ones_like(reached)


@dataclass(frozen=True)
class Graph:
    """By the run's slot graph: in every window of the video as it was, of the window alone, no slot masked."""

    graphs: StateGraphs
    threshold: float
    frameskip: int
    objects: SlotObjects

    def begin(self, slots: np.ndarray, position: np.ndarray, videos: np.ndarray, removed: np.ndarray) -> Reached:
        held = self.objects.first[videos].astype(np.int64)
        return _Depending(self, slots, held)


@dataclass
class _Depending:
    source: Graph
    slots: np.ndarray
    held: np.ndarray  # (B,6)

    def step(self, frame: int, imagined: np.ndarray, reached: np.ndarray) -> np.ndarray:
        first = frame - (self.source.graphs.history - 1) * self.source.frameskip
        if first < 0:
            return reached
        window = torch.from_numpy(np.ascontiguousarray(self.slots[:, first : frame + 1 : self.source.frameskip]))
        graph = self.source.graphs.of(window.to(self.source.graphs.device)).cpu().numpy()  # (B,S,S)
        rows = np.arange(len(graph))[:, None, None]
        depends = graph[rows, self.held[:, :, None], self.held[:, None, :]] >= self.source.threshold  # (B,6,6): row on column
        known = self.held >= 0
        depends &= known[:, :, None] & known[:, None, :]
        return np.asarray(reached | (depends & reached[:, None, :]).any(2))
