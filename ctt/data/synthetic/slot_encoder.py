"""Slots: a fixed random encoding of an object in a single frame.

A slot encodes position, orientation (a cube's up to its symmetry, none for round objects), colour, material, shape and
whether the object is in view; never velocity or other frames. The map to 128 numbers is linear plus a smaller bounded
non-linear part, scaled so that slots of different objects have an SD of 1, the unit of `noise`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ctt.data.data_format import CLEVRER
from ctt.data.data_settings import DataSettings
from ctt.data.scene import COLORS, MATERIALS, SHAPES, TOTAL, VIEW, Scene, Thing

SLOTS = CLEVRER.slots
WIDTH = CLEVRER.width
FEATURES = 2 + 2 + 1 + len(COLORS) + len(MATERIALS) + len(SHAPES)
HIDDEN = 48
POSITION_SCALE, ORIENTATION_SCALE, VIEW_SCALE, ATTRIBUTE_SCALE = 3.0, 0.4, 0.4, 0.8
NONLINEAR = 0.35
"""Size of the non-linear part relative to the linear one."""


def features(
    things: list[Thing], position: np.ndarray, orientation: np.ndarray, inside: np.ndarray, out_of_view: str = "true"
) -> np.ndarray:
    """Visible features of N objects: (F, N, 18) float64 from position (F, N, 2), orientation (F, N), inside (F, N)."""
    frames, count = inside.shape
    shown = np.zeros((frames, count, FEATURES))
    place = position.astype(np.float64)
    if out_of_view == "clamped":
        place = np.clip(place, -np.asarray(VIEW), VIEW)
    shown[..., 0:2] = POSITION_SCALE * place / VIEW
    cube = np.array([thing.shape == "cube" for thing in things])
    quarter = 4 * orientation.astype(np.float64)
    shown[..., 2] = ORIENTATION_SCALE * np.sin(quarter) * cube
    shown[..., 3] = ORIENTATION_SCALE * np.cos(quarter) * cube
    shown[..., 4] = VIEW_SCALE * inside
    for k, thing in enumerate(things):
        at = 5
        for value, values in ((thing.color, COLORS), (thing.material, MATERIALS), (thing.shape, SHAPES)):
            shown[:, k, at + values.index(value)] = ATTRIBUTE_SCALE
            at += len(values)
    return shown


class SlotEncoder:
    """The fixed random map from features to slots, determined by its seed."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(np.random.SeedSequence([seed, 0x510]))
        self._linear = rng.standard_normal((FEATURES, WIDTH))
        self._inner = rng.standard_normal((FEATURES, HIDDEN))
        self._bias = rng.uniform(-1, 1, HIDDEN)
        self._outer = rng.standard_normal((HIDDEN, WIDTH)) * NONLINEAR
        self._center = np.zeros(WIDTH)
        self._scale = 1.0
        sample = self.encode(_random_features(rng, 4096))
        self._center = sample.mean(axis=0)
        self._scale = float(1 / np.sqrt(sample.var(axis=0).mean()))
        self.empty = rng.standard_normal(WIDTH)
        """The slot without an object, (128,)."""

    def encode(self, shown: np.ndarray) -> np.ndarray:
        """Slots (..., 128) float64 of features (..., 18), without noise."""
        # einsum, not matmul: its bits do not depend on the number of threads of a linear algebra library
        flat = shown.reshape(-1, FEATURES)
        hidden = np.tanh(np.einsum("if,fh->ih", flat, self._inner) + self._bias)
        slots = np.einsum("if,fd->id", flat, self._linear) + np.einsum("ih,hd->id", hidden, self._outer)
        return np.asarray(((slots - self._center) * self._scale).reshape(*shown.shape[:-1], WIDTH))


@lru_cache(maxsize=4)
def encoder_of(seed: int) -> SlotEncoder:
    """The encoder of a seed, cached per process: making it takes as long as two scenes."""
    return SlotEncoder(seed)


def _random_features(rng: np.random.Generator, count: int) -> np.ndarray:
    things = [Thing(COLORS[rng.integers(8)], MATERIALS[rng.integers(2)], SHAPES[rng.integers(3)]) for _ in range(count)]
    place = rng.uniform(-1, 1, (1, count, 2)) * VIEW
    shown = features(things, place, rng.uniform(-np.pi, np.pi, (1, count)), np.ones((1, count), dtype=bool))
    return np.asarray(shown[0])


def assign(rng: np.random.Generator, objects: int, swap_probability: float) -> np.ndarray:
    """The slot of every object, int8 (178, N): random per video, fixed within a video except for identity swaps.

    A swap exchanges two of the seven slots, at least one of them with an object, from a random frame on.
    """
    order = np.tile(rng.permutation(SLOTS).astype(np.int8), (TOTAL, 1))
    draw, frame, first, other = rng.random(), rng.integers(1, TOTAL), rng.integers(objects), rng.integers(1, SLOTS)
    if draw < swap_probability:
        second = (first + other) % SLOTS
        order[frame:, [first, second]] = order[frame:, [second, first]]
    return order[:, :objects]


def render(scene: Scene, encoder: SlotEncoder, settings: DataSettings, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """The scene's slots (178, 7, 128) float32, slots' visibility (178, 7) bool, objects' slots (178, N) int8."""
    slot_of = assign(rng, len(scene.things), settings.swap_probability)
    shown = encoder.encode(features(scene.things, scene.position, scene.orientation, scene.inside, settings.out_of_view))
    if settings.out_of_view == "hidden":
        shown = np.where(scene.inside[..., None], shown, encoder.empty)
    slots = np.tile(encoder.empty, (TOTAL, SLOTS, 1))
    visible = np.zeros((TOTAL, SLOTS), dtype=bool)
    frames = np.arange(TOTAL)[:, None]
    slots[frames, slot_of] = shown
    visible[frames, slot_of] = scene.inside
    noise = rng.standard_normal(slots.shape, dtype=np.float32)
    return slots.astype(np.float32) + np.float32(settings.noise) * noise, visible, slot_of
