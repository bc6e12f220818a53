"""Physics of a scene: flat bodies sliding on a table seen from above, simulated by pymunk (Chipmunk).

All objects have one mass and one size. The table slows them by Coulomb friction, a constant deceleration that depends
on the material; metal slides farther and bounces more than rubber. Spheres and cylinders are circles from above (they
differ in their moment of inertia), cubes are boxes. The same input gives the same bits on the same machine.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pymunk
import pymunk.batch

from ctt.data.scene import FPS, TOTAL, Thing

RADIUS = 0.22
"""Radius of spheres and cylinders; a cube's side is twice as long."""
CORNER = RADIUS * math.sqrt(2)
"""Distance from a cube's centre to its corners: no two objects farther apart than twice this touch."""
SUBSTEPS = 2
TABLE_FRICTION = {"metal": 0.05, "rubber": 0.1}
"""Deceleration on the table, units per second squared."""
RESTITUTION = {"metal": 0.97, "rubber": 0.88}
"""A collision's restitution is the product over the two objects."""
SIDE_FRICTION = {"metal": 0.3, "rubber": 0.75}
"""The same for the friction between two touching objects."""
APART = 10
"""A pair that touches again within this many frames is still in the same collision."""

_STATE = pymunk.batch.BodyFields.POSITION | pymunk.batch.BodyFields.ANGLE | pymunk.batch.BodyFields.VELOCITY


@dataclass(frozen=True)
class Body:
    """An object at frame 0: position (x, y), velocity (units per second), angle (radians), spin (radians per second)."""

    thing: Thing
    position: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    spin: float = 0.0


@dataclass
class Motion:
    """The result of a simulation, F frames and N objects; `collisions` as in Scene, `twice`: some pair collided twice.

    A simulation that was `given_up` (see `simulate`) ends before its last frame.
    """

    position: np.ndarray  # (F, N, 2) float64
    velocity: np.ndarray  # (F, N, 2)
    orientation: np.ndarray  # (F, N)
    collisions: list[tuple[int, int, int]]
    contact: np.ndarray  # (F, N, N) bool
    twice: bool
    given_up: bool = False


class _Buffers(threading.local):
    """Buffers of a thread: pymunk (7.3) never frees the memory of one, about 50 kB a simulation, so they are used again."""

    def __init__(self) -> None:
        self.ids, self.floats = pymunk.batch.Buffer(), pymunk.batch.Buffer()

    def cleared(self) -> tuple[pymunk.batch.Buffer, pymunk.batch.Buffer]:
        self.ids.clear()
        self.floats.clear()
        return self.ids, self.floats


@functools.cache
def _buffers() -> _Buffers:
    return _Buffers()


class _Contacts:
    """Callbacks of the engine that record which pairs touch in which frames."""

    def __init__(self, frames: int, count: int, unwanted: Callable[[int, int, int], bool] | None) -> None:
        self.frame = 0
        self.unwanted = unwanted
        self.given_up = False
        self.touching: dict[tuple[int, int], int] = {}
        self.last: dict[tuple[int, int], int] = {}
        self.first: dict[tuple[int, int], int] = {}
        self.grid = np.zeros((frames, count, count), dtype=bool)
        self.twice = False

    def begin(self, arbiter: pymunk.Arbiter, space: pymunk.Space, data: object) -> None:
        pair = self._pair(arbiter)
        if pair not in self.first:
            self.first[pair] = self.frame
            self.given_up |= self.unwanted is not None and self.unwanted(self.frame, *pair)
        elif self.frame - self.last.get(pair, self.frame) > APART:
            self.twice = True
            self.given_up |= self.unwanted is not None
        self.touching[pair] = self.frame

    def separate(self, arbiter: pymunk.Arbiter, space: pymunk.Space, data: object) -> None:
        pair = self._pair(arbiter)
        start = self.touching.pop(pair, None)  # the engine calls this again when it is destroyed
        if start is not None:
            self._record(pair, start)

    def close(self) -> None:
        for pair, start in self.touching.items():
            self._record(pair, start)
        self.touching = {}

    def _record(self, pair: tuple[int, int], start: int) -> None:
        self.grid[start : self.frame + 1, pair[0], pair[1]] = True
        self.grid[start : self.frame + 1, pair[1], pair[0]] = True
        self.last[pair] = self.frame

    @staticmethod
    def _pair(arbiter: pymunk.Arbiter) -> tuple[int, int]:
        a, b = (shape.collision_type - 1 for shape in arbiter.shapes)
        return (a, b) if a < b else (b, a)


def moment(shape: str) -> float:
    """Moment of inertia about the vertical axis at unit mass."""
    if shape == "cube":
        return pymunk.moment_for_box(1.0, (2 * RADIUS, 2 * RADIUS))
    return (0.4 if shape == "sphere" else 0.5) * RADIUS**2


def simulate(
    bodies: list[Body],
    frames: int = TOTAL,
    absent: int | None = None,
    unwanted: Callable[[int, int, int], bool] | None = None,
) -> Motion:
    """Simulates the scene; `absent` leaves one object out (its rows are NaN, the others keep their numbers).

    Frame 0 is the given state; a collision's frame is the first whose interval (the 1/25 s before it) contains the first
    touch. With `unwanted`, a function of (frame, a, b), the simulation is given up as soon as that is true or a pair
    collides again.
    """
    space = pymunk.Space()
    space.collision_slop = 0.001
    dt = 1.0 / (FPS * SUBSTEPS)
    count = len(bodies)
    contacts = _Contacts(frames, count, unwanted)
    present = [k for k in range(count) if k != absent]
    made: list[pymunk.Body] = []
    for k in present:
        made.append(_add(space, bodies[k], k))
    space.on_collision(begin=contacts.begin, separate=contacts.separate)
    ids, floats = _buffers().cleared()
    pymunk.batch.get_space_bodies(space, pymunk.batch.BodyFields.BODY_ID, ids)
    listed = memoryview(ids.int_buf()).cast("P").tolist()  # the engine's own order, including the table
    columns = [listed.index(body.id) for body in made]
    for frame in range(frames):
        contacts.frame = frame
        if frame:
            for _ in range(SUBSTEPS):
                space.step(dt)
        if contacts.given_up:
            break
        pymunk.batch.get_space_bodies(space, _STATE, floats)
    contacts.close()
    read = np.frombuffer(floats.float_buf(), dtype=np.float64).reshape(-1, len(listed), 5)
    state = np.full((len(read), count, 5), np.nan)
    state[:, present] = read[:, columns][..., [0, 1, 3, 4, 2]]  # the engine's order is position, angle, velocity
    collisions = sorted((frame, a, b) for (a, b), frame in contacts.first.items())
    place, velocity, angle = state[..., 0:2], state[..., 2:4], state[..., 4]
    return Motion(place, velocity, angle, collisions, contacts.grid, contacts.twice, contacts.given_up)


def glide(body: Body, frames: int = TOTAL) -> np.ndarray:
    """The path (frames, 2) of the object without collisions: the closed form of Coulomb friction."""
    speed, slowing = math.hypot(*body.velocity), TABLE_FRICTION[body.thing.material]
    if speed == 0:
        return np.tile(np.array(body.position), (frames, 1))
    time = np.minimum(np.arange(frames) / FPS, speed / slowing)
    travelled = (speed * time - 0.5 * slowing * time**2) / speed
    return np.asarray(np.array(body.position) + travelled[:, None] * np.array(body.velocity))


def _add(space: pymunk.Space, body: Body, number: int) -> pymunk.Body:
    material = body.thing.material
    made = pymunk.Body(1.0, moment(body.thing.shape))
    made.position, made.velocity = body.position, body.velocity
    made.angle, made.angular_velocity = body.angle, body.spin
    square = body.thing.shape == "cube"
    shape = pymunk.Poly.create_box(made, (2 * RADIUS, 2 * RADIUS)) if square else pymunk.Circle(made, RADIUS)
    shape.elasticity, shape.friction = RESTITUTION[material], SIDE_FRICTION[material]
    shape.collision_type = number + 1
    # Coulomb friction with the table: a joint that holds the body still, with a bounded force.
    slide = pymunk.PivotJoint(space.static_body, made, (0, 0), (0, 0))
    slide.max_bias, slide.max_force = 0.0, TABLE_FRICTION[material]
    turn = pymunk.GearJoint(space.static_body, made, 0.0, 1.0)
    turn.max_bias, turn.max_force = 0.0, TABLE_FRICTION[material] * 0.7 * RADIUS
    space.add(made, shape, slide, turn)
    return made
