"""Events of a scene, their causes, and the world on which programs are run.

Sources: CLEVRER (https://arxiv.org/abs/1910.01442, §3 and appendix) for events, causes and responsibility; the speed
threshold is that of the paper's released executor, 0.1 pixels a frame of a 480-pixel-wide picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np

from ctt.data.scene import FPS, GIVEN, VIEW, Scene, Thing, crossings

START_FRAME = 0
END_FRAME = 125
PICTURE_WIDTH = 480
MOVING_SPEED = 0.1 * FPS * 2 * VIEW[0] / PICTURE_WIDTH
"""Units per second; an object above this speed is moving, else stationary."""

SPEED_REACH = 5
"""Speed is measured between the positions 5 frames before and after, clipped to the given frames."""

_RANK = {"start": 0, "in": 1, "collision": 2, "out": 3, "end": 4}


class Event(NamedTuple):
    """An event in a frame: kind is start, end, in, out or collision; objects are in ascending order."""

    frame: int
    kind: str
    objects: tuple[int, ...]


START = Event(START_FRAME, "start", ())
END = Event(END_FRAME, "end", ())


def events_of(scene: Scene) -> list[Event]:
    """All entrances, exits and collisions in all frames, in time order; within a frame in, collision, out."""
    events = [Event(frame, kind, (k,)) for frame, k, kind in crossings(scene.inside)]
    events += [Event(frame, "collision", (a, b)) for frame, a, b in scene.collisions]
    return sorted(events, key=_order)


def _order(event: Event) -> tuple[int, int, tuple[int, ...]]:
    return event.frame, _RANK[event.kind], event.objects


def direct_causes(events: Iterable[Event]) -> dict[Event, frozenset[Event]]:
    """For every event, the previous event of each of its objects."""
    latest: dict[int, Event] = {}
    causes = {}
    for event in sorted(events, key=_order):
        causes[event] = frozenset(latest[k] for k in event.objects if k in latest)
        latest.update(dict.fromkeys(event.objects, event))
    return causes


def ancestors(events: Iterable[Event]) -> dict[Event, frozenset[Event]]:
    """For every event, its direct and indirect causes, without the event itself."""
    closed: dict[Event, frozenset[Event]] = {}
    for event, causes in direct_causes(events).items():  # causes come before their effects
        closed[event] = causes.union(*(closed[cause] for cause in causes))
    return closed


def event_responsible(event: Event, outcome: Event, closed: dict[Event, frozenset[Event]]) -> bool:
    """Whether `event` is responsible for the outcome: it is one of its ancestors."""
    return event in closed[outcome]


def object_responsible(k: int, outcome: Event, closed: dict[Event, frozenset[Event]]) -> bool:
    """Whether object `k` is responsible for the outcome: it takes part in it or in one of its ancestors."""
    return k in outcome.objects or any(k in event.objects for event in closed[outcome])


def speeds(position: np.ndarray) -> np.ndarray:
    """Speed (GIVEN, N), units per second, from positions (at least GIVEN, N, 2): the distance between the positions
    SPEED_REACH frames before and after, clipped to the given frames, over the time between them."""
    frames = np.arange(GIVEN)
    before, after = np.maximum(frames - SPEED_REACH, 0), np.minimum(frames + SPEED_REACH, GIVEN - 1)
    distance = np.linalg.norm(position[after].astype(np.float64) - position[before], axis=-1)
    return np.asarray(distance * FPS / (after - before)[:, None])


class World:
    """The view of a scene for programs: its objects, the events seen and unseen, causes, motion, and the collisions
    without an object. Made once per scene; its parts are computed at first use."""

    def __init__(self, scene: Scene) -> None:
        self.things: Sequence[Thing] = scene.things
        self.objects = tuple(range(len(scene.things)))
        self._scene = scene
        self._states: dict[tuple[bool, int | None], tuple[int, ...]] = {}
        every = events_of(scene)
        self.events = tuple(e for e in every if e.frame < GIVEN)
        self.unseen = tuple(e for e in every if e.frame >= GIVEN)

    @cached_property
    def hypothetical(self) -> tuple[Event, ...]:
        """A hypothetical collision of every pair of objects, with frame -1."""
        return tuple(Event(-1, "collision", pair) for pair in combinations(self.objects, 2))

    @cached_property
    def ancestors(self) -> dict[Event, frozenset[Event]]:
        return ancestors(self.events)

    @cached_property
    def visible(self) -> np.ndarray:
        """(GIVEN, N) bool."""
        return self._scene.inside[:GIVEN]

    @cached_property
    def moving(self) -> np.ndarray:
        """(GIVEN, N) bool: faster than MOVING_SPEED, in view or not."""
        return speeds(self._scene.position) > MOVING_SPEED

    def in_state(self, moving: bool, frame: int | None) -> tuple[int, ...]:
        """The visible objects that move (or rest) in `frame`; with None, those that ever move (or never do) while visible."""
        if (moving, frame) not in self._states:
            self._states[moving, frame] = self._find_in_state(moving, frame)
        return self._states[moving, frame]

    def _find_in_state(self, moving: bool, frame: int | None) -> tuple[int, ...]:
        if frame is not None:
            chosen = self.visible[frame] & (self.moving[frame] == moving)
        else:
            ever = (self.visible & self.moving).any(axis=0)
            chosen = self.visible.any(axis=0) & (ever == moving)
        return tuple(np.flatnonzero(chosen).tolist())

    def without(self, k: int) -> tuple[Event, ...]:
        """The collisions of the same scene without object `k`, over all frames including the future.
        Raises KeyError if the scene was not simulated without it."""
        return tuple(Event(frame, "collision", (a, b)) for frame, a, b in self._scene.without[k])
