"""Scene: one simulated video with its complete ground truth.

Seven seconds at 25 frames per second; the first 128 frames are given, the rest is the future of predictive
questions (CLEVRER, https://arxiv.org/abs/1910.01442, §3). Lengths are in table units, times in seconds, angles in
radians; the table is seen from above, x to the right and y up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

GIVEN = 128
TOTAL = 178
FPS = 25
MOST_OBJECTS = 6

COLORS = ("gray", "red", "blue", "green", "brown", "cyan", "purple", "yellow")
MATERIALS = ("metal", "rubber")
SHAPES = ("cube", "sphere", "cylinder")

VIEW = (3.0, 2.0)
"""Half width and half height of the camera's view, a rectangle centred at the origin."""


@dataclass(frozen=True)
class Thing:
    """The attributes of an object, unique within its scene."""

    color: str
    material: str
    shape: str


@dataclass
class Scene:
    """N objects over 178 frames. A collision is (frame, a, b), a < b; frame is the first in which the pair touches.

    `without[k]` holds the collisions of the same scene simulated with object k absent from frame 0, over all frames and
    in the full scene's object numbers; `without_position[k]` holds its trajectories, NaN for k.
    """

    index: int
    things: list[Thing]
    position: np.ndarray  # (178, N, 2) float32
    velocity: np.ndarray  # (178, N, 2) float32, units per second
    orientation: np.ndarray  # (178, N) float32, radians
    inside: np.ndarray  # (178, N) bool, in the camera's view
    collisions: list[tuple[int, int, int]]
    without: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)
    without_position: dict[int, np.ndarray] = field(default_factory=dict)  # each (178, N, 2) float32
    contact: np.ndarray | None = None  # (178, N, N) bool, symmetric: the pair touches in that frame


def in_view(position: np.ndarray) -> np.ndarray:
    """Which positions (..., 2) are in the camera's view, bool (...); an object is in view while its centre is."""
    return np.asarray((np.abs(position) <= np.asarray(VIEW, dtype=position.dtype)).all(axis=-1))


def crossings(inside: np.ndarray) -> list[tuple[int, int, str]]:
    """(frame, object, "in" | "out") for every flip of `inside` (frames, N), in time order, then by object.

    The frame is the first one in the new state; an object in view from frame 0 has not entered.
    """
    frames, objects = np.nonzero(inside[1:] != inside[:-1])
    return [(int(f) + 1, int(k), "in" if inside[f + 1, k] else "out") for f, k in zip(frames, objects, strict=True)]
