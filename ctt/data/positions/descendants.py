"""Descendants: who is reached, in a video as it was, by an object's collisions and those of whom they reach."""

from __future__ import annotations

import numpy as np

from ctt.data.positions.linear_reader import LinearPositionReader
from ctt.data.positions.objects import SlotObjects


def reach_of_pairs(reader: LinearPositionReader, shape: np.ndarray) -> np.ndarray:
    """(B,6,6): the distance at which two objects touch, by their shapes (B,6); -inf for pairs that cannot."""
    known = shape >= 0
    possible = known[:, :, None] & known[:, None, :] & ~np.eye(shape.shape[1], dtype=bool)
    return np.where(possible, reader.reach[shape[:, :, None], shape[:, None, :]], -np.inf)


def touching(position: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Which pairs touch, bool (B,6,6), at positions (B,6,2)."""
    apart = position[:, :, None].astype(np.float64) - position[:, None, :]
    return np.asarray(np.linalg.norm(apart, axis=-1) < reach)


def ancestry_gaps(reader: LinearPositionReader, objects: SlotObjects, position: np.ndarray, video: int, removed: int) -> np.ndarray:
    """(6,6): closest approach of pairs minus their reach, of the approaches that do not descend from the removed object.

    position (V,F,6,2): as seen, with it. An object counts until a descendant touches it; then it is a descendant itself."""
    where = position[video].copy()
    reach = reach_of_pairs(reader, objects.shape[video : video + 1])
    reached = np.arange(where.shape[1]) == removed
    for frame in range(len(where)):
        met = touching(position[video : video + 1, frame], reach)[0]
        where[frame, reached] = np.nan
        reached = reached | met[reached].any(0)
    return np.asarray(reader.gaps(where[None], objects.shape[video : video + 1])[0])
