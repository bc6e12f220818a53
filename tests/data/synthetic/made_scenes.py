"""Small random scenes without physics: things that glide and stop, and arbitrary collisions."""

import random
from itertools import combinations

import numpy as np

from ctt.data.scene import COLORS, FPS, MATERIALS, SHAPES, TOTAL, Scene, Thing, in_view


def made_scene(seed: int, least: int = 4) -> Scene:
    """`least` to six things; about two thirds of the scenes have a collision in the future."""
    draw = random.Random(seed)
    count = draw.randint(least, 6)
    kinds = [Thing(c, m, s) for c in COLORS for m in MATERIALS for s in SHAPES]
    # Few colours, so that the shortest descriptions differ in length.
    few = [kind for kind in kinds if kind.color in draw.sample(COLORS, 4)]
    frames = np.arange(TOTAL)
    position = np.empty((TOTAL, count, 2))
    for k in range(count):
        crosses, speed = draw.random() < 0.7, draw.uniform(0.3, 1.6)
        heading = np.array([draw.uniform(-1, 1), draw.uniform(-0.6, 0.6)])
        start, stop = draw.randint(0, 100), draw.randint(60, TOTAL)
        middle = np.array([draw.uniform(-2.5, 2.5), draw.uniform(-1.5, 1.5)])
        time = (np.minimum(frames, stop) - start) / FPS if crosses else np.zeros(TOTAL)
        position[:, k] = middle + time[:, None] * heading * speed
    collisions = _collisions(draw, range(count), draw.randint(2, 5))
    without = {}
    for k in range(count):
        others = [j for j in range(count) if j != k]
        kept = [c for c in collisions if k not in c[1:] and draw.random() < 0.7]
        pairs = {c[1:] for c in kept}
        without[k] = sorted(kept + [c for c in _collisions(draw, others, 2) if c[1:] not in pairs])
    return Scene(
        index=seed,
        things=draw.sample(few, count),
        position=position.astype(np.float32),
        velocity=np.gradient(position, axis=0).astype(np.float32) * FPS,
        orientation=np.zeros((TOTAL, count), np.float32),
        inside=in_view(position),
        collisions=collisions,
        without=without,
    )


def _collisions(draw, objects, count):
    pairs = list(combinations(objects, 2))
    chosen = draw.sample(pairs, min(count, len(pairs)))
    return sorted((draw.randint(5, TOTAL - 1), a, b) for a, b in chosen)
