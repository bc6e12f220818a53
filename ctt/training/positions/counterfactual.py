"""Counterfactual rollouts: a video without one of its objects, as the world model imagines it.

Pearl's three steps (Causality, 2009, section 7.1) on slots. What was observed, and the rollout after it, is taken as it is
(abduction); the object's slot is empty from the first frame on (action); an object that the removal does not reach keeps its
slots, one that it reaches is predicted, from its own imagined past and everybody else's (prediction). Who is reached: removal.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ctt.core.build_context import BuildContext
from ctt.data.positions.linear_reader import LinearPositionReader, follow
from ctt.data.positions.objects import SlotObjects
from ctt.models.predictor import Predictor
from ctt.training.positions.removal import Reach

PAIRS, CHUNK = 64, 8
"""Pairs of a video and an object that are imagined at a time, and of these predicted at a time, so that windows stay in a CPU
core's cache. On a GPU more are imagined, and all of them predicted at a time (1.2 GB of CLEVRER's slots)."""
ON_GPU = 1024


@dataclass(frozen=True)
class Factual:
    """What is known of the videos with all their objects: given slots (V,F,S,D), the rolled-out ones (V,N,S,D), and objects."""

    given: np.ndarray
    predicted: np.ndarray
    objects: SlotObjects

    @property
    def frames(self) -> int:
        return int(self.given.shape[1] + self.predicted.shape[1])

    def slots(self, videos: np.ndarray) -> np.ndarray:
        """Slots (B,F+N,S,D) float32 of videos (B,)."""
        parts = [np.asarray(part[videos], np.float32) for part in (self.given, self.predicted)]
        return np.concatenate(parts, 1)


@dataclass(frozen=True)
class Imagined:
    """B videos without an object: slots (B,F+N,S,D), the objects' positions read from them (B,F+N,6,2), NaN for the removed one,
    and from which frame on each object is imagined (B,6); F+N: never."""

    slots: np.ndarray
    position: np.ndarray
    since: np.ndarray


def without(
    predictor: Predictor,
    frameskip: int,
    reader: LinearPositionReader,
    factual: Factual,
    pairs: Sequence[tuple[int, int]],
    reach: Reach,
    context: BuildContext,
) -> Mapping[tuple[int, int], np.ndarray]:
    """{(video, k): gaps (6,6)} between the objects over all frames without object k; progress in interventions."""
    out: dict[tuple[int, int], np.ndarray] = {}
    size = at_a_time(context.device)
    for first in range(0, len(pairs), size):
        chunk = pairs[first : first + size]
        videos, removed = (np.array(column) for column in zip(*chunk, strict=True))
        imagined = imagine(predictor, frameskip, reader, factual, videos, removed, reach, context.device)
        out |= zip(chunk, reader.gaps(imagined.position, factual.objects.shape[videos]), strict=True)
        context.progress(len(out), len(pairs), "intervention")
        if context.stopping:
            context.stop()
    return out


def at_a_time(device: str) -> int:
    """How many pairs are imagined at a time on a device."""
    return PAIRS if device == "cpu" else ON_GPU


@torch.no_grad()
def imagine(
    predictor: Predictor,
    frameskip: int,
    reader: LinearPositionReader,
    factual: Factual,
    videos: np.ndarray,
    removed: np.ndarray,
    reach: Reach,
    device: str = "cpu",
) -> Imagined:
    """Videos (B,) without the objects `removed` (B,).

    Time is cut into blocks of `frameskip` frames. A block and the P − 1 after it are predicted as in a rollout: one window for
    each offset, whose history are the H frames before the block with this offset, observed or imagined. Predicted anew is
    what no prediction reaches yet, and, from the block they are in on, videos of which another object is reached. The first
    H·frameskip frames are never imagined. An object that is reached in frame t is imagined from frame t + 1 on.
    """
    slots = factual.slots(videos)
    held = factual.objects.first[videos].astype(np.int64)
    _, one, of = np.unique(videos, return_index=True, return_inverse=True)  # a video is asked about more than once
    position = follow(reader.read(slots[one]), held[one][:, None])[of]
    spread = reach.begin(slots, position.copy(), videos, removed)
    rows = np.arange(len(videos))
    there = held[rows, removed] >= 0
    position[rows, :, removed] = np.nan
    action = slots.copy()
    action[rows[there], :, held[rows, removed][there]] = reader.empty
    world = torch.from_numpy(action).to(device)
    reached = np.zeros(held.shape, bool)
    reached[rows, removed] = True
    since = np.full(held.shape, factual.frames)
    begin = predictor.history * frameskip
    ahead = _Ahead(predictor, world, frameskip)
    for frame in range(factual.frames):
        moved = reached & (held >= 0)
        moved[rows, removed] = False
        if frame >= begin and moved.any():
            since[moved] = np.minimum(since[moved], frame)
            need = np.flatnonzero(moved.any(1))
            predicted = ahead.of(frame, need, moved.sum(1)[need])
            row, k = np.nonzero(moved[need])
            slot = held[need][row, k]
            world[need[row], frame, slot] = predicted[row, slot]
            position[need[row], frame, k] = reader.read(predicted[row, slot].cpu().numpy())
        reached = spread.step(frame, position[:, frame], reached)
    return Imagined(world.cpu().numpy(), position, since)


class _Ahead:
    """Predictions of the P·frameskip frames that follow a block of history, of the rows that need them.

    A row is predicted anew at the block's end, and as soon as another of its objects is reached: from the last block that began.
    """

    def __init__(self, predictor: Predictor, world: Tensor, frameskip: int) -> None:
        self.predictor, self.world, self.frameskip = predictor, world, frameskip
        self.begin = predictor.history * frameskip
        shape = (world.shape[0], predictor.future * frameskip, *world.shape[2:])
        self.predicted = torch.empty(shape, device=world.device)
        self.first = np.full(world.shape[0], -1)
        """Of each row the frame from which on it is predicted; -1: not yet."""
        self.reached = np.zeros(world.shape[0], np.int64)

    def of(self, frame: int, rows: np.ndarray, reached: np.ndarray) -> Tensor:
        """Frame `frame` as predicted (b,S,D) of rows (b,); reached (b,): how many objects are imagined."""
        first = frame - (frame - self.begin) % self.frameskip
        old = (self.first[rows] < 0) | (frame - self.first[rows] >= self.predicted.shape[1]) | (self.reached[rows] != reached)
        if old.any():
            stale = rows[old]
            self.first[stale], self.reached[stale] = first, reached[old]
            parts = 1 if self.world.is_cuda else -(-len(stale) // CHUNK)
            for chunk in np.array_split(stale, parts):
                self._predict(chunk, first)
        return self.predicted[rows, frame - self.first[rows]]

    def _predict(self, rows: np.ndarray, first: int) -> None:
        history = self.world[rows, first - self.begin : first]  # (b, H·skip, S, D)
        window = torch.unflatten(history, 1, (self.predictor.history, self.frameskip)).transpose(1, 2)
        found = self.predictor.predict(window.flatten(0, 1))  # (b·skip, P, S, D)
        self.predicted[rows] = torch.unflatten(found, 0, (len(rows), self.frameskip)).transpose(1, 2).flatten(1, 2)
