"""Scenes that several tests look at, made once a process."""

from functools import cache

import numpy as np

from ctt.data.generator import make_scene
from ctt.data.scene import Scene


@cache
def some_scenes(count: int = 12) -> list[Scene]:
    return [make_scene(index, np.random.default_rng([7, index])) for index in range(count)]
