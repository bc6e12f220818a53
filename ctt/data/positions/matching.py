"""Matching slots to objects where only positions are known, as with CLEVRER's annotations.

Nothing tells at first where a slot is. But a regression of slots on the mean position of the objects in view already
gives the linear map from slot to position, shrunk by the number of objects: an object's slot moves that mean as the
object does. From there matching (Hungarian) and fitting take turns until no match changes.
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
    """`placed` with the slot that holds each object, the same in all frames; slots (V, 128, S, D), of which every `stride`-th
    frame is looked at."""
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
    """`placed` with the slots whose positions (V, 128, S, 2), as they were read, are its objects'."""
    return holding(tracks, assign(found[:, ::stride], tracks.position[:, ::stride], tracks.inside[:, ::stride]))


def holding(tracks: ObjectTracks, held: np.ndarray) -> ObjectTracks:
    """`placed` with each object in one slot of held (V, 6) throughout."""
    return dataclasses.replace(tracks, slot=np.broadcast_to(held[:, None], tracks.inside.shape))


def first_map(shown: np.ndarray, position: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The map (D+1, 2) that needs no match: towards the mean position in view, stretched to the spread of positions."""
    seen = inside.any(-1)
    masked = np.where(inside[..., None], position, 0.0)
    mean = masked.sum(2)[seen] / inside.sum(2)[seen][:, None]
    count = shown.shape[2]
    weights = regress(shown[seen].reshape(-1, shown.shape[-1]), mean.repeat(count, 0))
    found = read(weights, shown[seen]).reshape(-1, 2)
    true = position[inside]
    stretch = true.std(0) / np.maximum(found.std(0), 1e-9)
    weights = weights * stretch
    weights[-1] += true.mean(0) - (found * stretch).mean(0)
    return weights


def assign(found: np.ndarray, position: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The slot of every object (V, N) int8, -1 for none: the assignment with the least mean squared distance over the
    frames in which objects are in view; found (V, F, S, 2), position (V, F, N, 2), inside (V, F, N)."""
    out = np.full(position.shape[:1] + position.shape[2:3], -1, np.int8)
    for v in range(len(out)):
        seen = inside[v].any(0)
        apart = ((found[v][:, :, None] - np.nan_to_num(position[v])[:, None]) ** 2).sum(-1)  # (F, S, N)
        cost = (apart * inside[v][:, None]).sum(0) / np.maximum(inside[v].sum(0), 1)
        row, column = linear_sum_assignment(np.minimum(cost[:, seen], FAR))
        out[v, np.flatnonzero(seen)[column]] = row
    return out
