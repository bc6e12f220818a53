"""Simulated scenes shared by tests, made once per process."""

import numpy as np

from ctt.data.scene import Scene
from ctt.data.synthetic.generator import make_scene

_MADE: list[Scene] = []


def some_scenes(count: int = 12) -> list[Scene]:
    while len(_MADE) < count:
        _MADE.append(make_scene(len(_MADE), np.random.default_rng([7, len(_MADE)])))
    return _MADE[:count]
