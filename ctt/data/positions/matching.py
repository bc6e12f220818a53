"""Matching slots to objects where only positions are known, as with CLEVRER's annotations.

A slot's position is unknown at first. A regression of the mean position of the objects in view on slots gives the linear
map from slot to position, shrunk by the number of objects, since that mean moves with each object. From there matching
(Hungarian algorithm) and fitting alternate until no match changes.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.optimize import linear_sum_assignment

from ctt.data.positions.linear_reader import read, regress
from ctt.data.positions.objects import ObjectTracks

ROUNDS = 20
FAR = 1e6


def match(slots: np.ndarray, tracks: ObjectTracks, stride: int) -> ObjectTracks:
    """`tracks` with the slot of each object, the same in all frames; uses every `stride`-th frame of slots (V, 128, S, D)."""
    shown = np.asarray(slots[:, ::stride], np.float32)
    position, inside = tracks.position[:, ::stride], tracks.inside[:, ::stride]
    weights = first_map(shown, position, inside)
    held = np.full(tracks.position.shape[:1] + tracks.position.shape[2:3], -1, np.int8)
    for _ in range(ROUNDS):
        before = held
        held = assign(read(weights, shown), position, inside)
        if np.array_equal(held, before):
            break
        video, frame, k = np.nonzero(inside & (held >= 0)[:, None])
        weights = regress(shown[video, frame, held[video, k]], position[video, frame, k])
    return holding(tracks, held)


def matched(tracks: ObjectTracks, found: np.ndarray, stride: int) -> ObjectTracks:
    """`tracks` with the slot of each object, from the slots' positions `found` (V, 128, S, 2)."""
    return holding(tracks, assign(found[:, ::stride], tracks.position[:, ::stride], tracks.inside[:, ::stride]))


def holding(tracks: ObjectTracks, held: np.ndarray) -> ObjectTracks:
    """`tracks` with each object in the slot of held (V, 6) in all frames."""
    return dataclasses.replace(tracks, slot=np.broadcast_to(held[:, None], tracks.inside.shape))


def first_map(shown: np.ndarray, position: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The initial map (D+1, 2), without matches: regression on the mean position in view, scaled to the positions' spread."""
    seen = inside.any(-1)
    masked = np.where(inside[..., None], position, 0.0)
    mean = masked.sum(2)[seen] / inside.sum(2)[seen][:, None]
    count = shown.shape[2]
    weights = regress(shown[seen].reshape(-1, shown.shape[-1]), mean.repeat(count, 0))
    found = read(weights, shown[seen]).reshape(-1, 2)
    true = position[inside]
    stretch = true.std(0) / np.maximum(found.std(0), 1e-9)
    weights = np.asarray(weights * stretch)
    weights[-1] += true.mean(0) - (found * stretch).mean(0)
    return weights


def assign(found: np.ndarray, position: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The slot of every object (V, N) int8, -1 for objects never in view: least mean squared distance while in view.

    found (V, F, S, 2), position (V, F, N, 2), inside (V, F, N)."""
    out = np.full(position.shape[:1] + position.shape[2:3], -1, np.int8)
    for v in range(len(out)):
        seen = inside[v].any(0)
        apart = ((found[v][:, :, None] - np.nan_to_num(position[v])[:, None]) ** 2).sum(-1)  # (F, S, N)
        cost = (apart * inside[v][:, None]).sum(0) / np.maximum(inside[v].sum(0), 1)
        row, column = linear_sum_assignment(np.minimum(cost[:, seen], FAR))
        out[v, np.flatnonzero(seen)[column]] = row
    return out
