"""Descendants: who is reached, in a video as it was, by an object's collisions and those of whom they reach."""

from __future__ import annotations

import numpy as np

from ctt.data.positions.linear_reader import LinearPositionReader


def reach_of_pairs(reader: LinearPositionReader, shape: np.ndarray) -> np.ndarray:
    """(B,6,6): the distance at which two objects touch, by their shapes (B,6); -inf for pairs that cannot."""
    known = shape >= 0
    possible = known[:, :, None] & known[:, None, :] & ~np.eye(shape.shape[1], dtype=bool)
    return np.where(possible, reader.reach[shape[:, :, None], shape[:, None, :]], -np.inf)


def touching(position: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Which pairs touch, bool (B,6,6), at positions (B,6,2)."""
    apart = position[:, :, None].astype(np.float64) - position[:, None, :]
    return np.asarray(np.linalg.norm(apart, axis=-1) < reach)


def first_touches(reader: LinearPositionReader, shape: np.ndarray, position: np.ndarray) -> np.ndarray:
    """(B,6,6): the frame in which each pair first touches, -1 for never; shapes (B,6), positions (B,F,6,2)."""
    reach = reach_of_pairs(reader, shape)
    met = np.stack([touching(position[:, frame], reach) for frame in range(position.shape[1])], 1)
    return np.where(met.any(1), met.argmax(1), -1)


def ancestry_gaps(meets: np.ndarray, removed: int) -> np.ndarray:
    """(6,6): below 0 for pairs that collide, and whose collision does not descend from the object `removed`; else inf.

    meets (6,6): the frame of a pair's first collision, -1 for none. A collision descends from the object if one of its two took
    part in an earlier one that does, or is the object itself."""
    out = np.full(meets.shape, np.inf)
    reached = {removed}
    for _, a, b in sorted((int(meets[a, b]), int(a), int(b)) for a, b in zip(*np.nonzero(np.triu(meets >= 0, 1)), strict=True)):
        if a in reached or b in reached:
            reached |= {a, b}
        else:
            out[a, b] = out[b, a] = -1.0
    return out
