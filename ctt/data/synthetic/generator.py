"""Generator of scenes: one moving object, then objects added so that they hit, or just miss, the previous ones.

As in CLEVRER (https://arxiv.org/abs/1910.01442, appendix), scenes are built recursively, with a simulation after each
addition; pairs that collide twice, collisions out of view and objects that return into view are rejected. The numbers of
objects and collisions are drawn first and the scene is built to match them, so that rejections do not change the shares
of `OUTLINES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ctt.data.scene import COLORS, FPS, GIVEN, MATERIALS, SHAPES, TOTAL, VIEW, Scene, Thing, crossings, in_view
from ctt.data.synthetic.physics import CORNER, RADIUS, TABLE_FRICTION, Body, Motion, glide, simulate

# (objects, collisions in the given frames, minimum of later collisions): share.
OUTLINES = {
    (4, 2, 0): 0.04,
    (4, 2, 1): 0.28,
    (4, 3, 0): 0.08,
    (5, 2, 0): 0.04,
    (5, 2, 1): 0.19,
    (5, 3, 0): 0.04,
    (5, 3, 1): 0.11,
    (5, 4, 0): 0.02,
    (6, 2, 0): 0.02,
    (6, 2, 1): 0.08,
    (6, 3, 0): 0.02,
    (6, 3, 1): 0.07,
    (6, 4, 1): 0.01,
}
EARLIEST = 10
"""No collision before this frame: objects must first be seen moving."""
MARGIN = 3
"""No collision within this many frames of the end of the given part, so that none is partly visible."""
SOFTEST = 0.05
"""Every collision changes both velocities by more than this between two frames (units per second)."""
SEEN = 12
"""Every object is in view for at least this many of the given frames."""
FARTHEST = 11.0
"""No object starts farther from the centre than this, along either axis (table units)."""
LATEST = 166
OBVIOUS = 0.3
"""Share of the later collisions predictable by straight lines that is kept."""
TRIES = 40
LATE_TRIES = 200
"""Late collisions are hard to hit, but most attempts fail the cheap check of `_promising`."""
SCENES = 5000


def make_scene(index: int, rng: np.random.Generator) -> Scene:
    """A scene with its counterfactual runs, determined by `rng`. About 50 ms. Raises RuntimeError after SCENES attempts."""
    shares = np.array(list(OUTLINES.values()))
    objects, given, later = list(OUTLINES)[rng.choice(len(OUTLINES), p=shares / shares.sum())]
    for _ in range(SCENES):
        built = _attempt(rng, objects, given, later)
        if built is not None:
            return _scene(index, *built, rng.permutation(objects))
    raise RuntimeError(f"no scene with {objects} objects, {given} + {later} collisions in {SCENES} attempts")


def _attempt(rng: np.random.Generator, objects: int, given: int, later: int) -> tuple[list[Body], Motion] | None:
    things = _things(rng, objects)
    bodies = [_passing(rng, things[0], frame=int(rng.integers(0, 50)))]
    motion = simulate(bodies)
    if not _acceptable(motion):
        return None
    hits = [(EARLIEST + 3, GIVEN - MARGIN - 3)] * given + [(GIVEN + MARGIN, LATEST)] * later
    windows: list[tuple[int, int] | None] = [None] * (objects - 1)
    windows[: len(hits)] = hits[: objects - 1]
    for thing, window in zip(things[1:], [windows[i] for i in rng.permutation(objects - 1)], strict=True):
        added = _add(rng, bodies, motion, thing, window, given, later)
        if added is None:
            return None
        bodies, motion = added
    frames = [frame for frame, _, _ in motion.collisions]
    if sum(f < GIVEN for f in frames) != given or (later > 0) != any(f >= GIVEN for f in frames):
        return None
    return bodies, motion


def _add(
    rng: np.random.Generator,
    bodies: list[Body],
    motion: Motion,
    thing: Thing,
    window: tuple[int, int] | None,
    given: int,
    later: int,
) -> tuple[list[Body], Motion] | None:
    """Adds an object that collides within `window` (frames), or with nothing if that is None."""
    late = window is not None and window[0] >= GIVEN
    for _ in range(LATE_TRIES if late else TRIES):
        body = _hitting(rng, motion, thing, window) if window else _bystander(rng, motion, thing)
        if body is None or not _promising(rng, body, bodies, motion, window):
            continue
        longer = simulate([*bodies, body], unwanted=_limit(given, later))
        new = [frame for frame, _, b in longer.collisions if b == len(bodies)]
        wanted = any(window[0] <= frame <= window[1] for frame in new) if window else not new
        if wanted and _acceptable(longer) and (not late or not _obvious(longer) or rng.random() < OBVIOUS):
            return [*bodies, body], longer
    return None


def _promising(rng: np.random.Generator, body: Body, others: list[Body], motion: Motion, window: tuple[int, int] | None) -> bool:
    """A cheap straight-line check that avoids most simulations; objects long out of view are partly rejected."""
    if any(math.dist(body.position, other.position) < 2 * CORNER + 0.02 for other in others):
        return False
    if max(map(abs, body.position)) > FARTHEST:
        return False
    path = glide(body)
    inside = in_view(path)
    if inside[:GIVEN].mean() < rng.uniform(0.4, 1):
        return False
    near = (np.hypot(*(motion.position - path[:, None]).T) < 2 * RADIUS).any(axis=0)
    if window is None:
        return not near.any()
    first = int(near.argmax())
    return bool(near[first]) and window[0] <= first <= window[1] and bool(inside[first])


def _noticeable(motion: Motion, frame: int, pair: tuple[int, int]) -> bool:
    """Whether a collision visibly changes both objects' velocities; grazes do not."""
    change = np.diff(motion.velocity[frame - 1 : frame + 2, list(pair)], axis=0)
    return bool((np.hypot(change[..., 0], change[..., 1]).max(axis=0) > SOFTEST).all())


def _obvious(motion: Motion) -> bool:
    """Whether straight lines from the last given frame bring a colliding pair nearer than all other pairs."""
    ahead = np.arange(1, 33)[:, None, None] / FPS
    place = motion.position[GIVEN - 1] + ahead * motion.velocity[GIVEN - 1]
    gap = np.hypot(*(place[:, :, None] - place[:, None]).T).min(axis=-1)
    a, b = np.triu_indices(gap.shape[0], k=1)
    colliding = {(a, b) for frame, a, b in motion.collisions if frame >= GIVEN}
    will = np.array([pair in colliding for pair in zip(a.tolist(), b.tolist(), strict=True)])
    return bool(will.all()) or bool(gap[a, b][will].min() < gap[a, b][~will].min())


def _limit(given: int, later: int) -> Callable[[int, int, int], bool]:
    """A test for `simulate`: whether a collision is too early, too near the end of the given frames, or one too many."""
    left = {True: given, False: 2 * later}

    def unwanted(frame: int, a: int, b: int) -> bool:
        left[frame < GIVEN] -= 1
        return frame < EARLIEST or abs(frame - GIVEN) < MARGIN or left[frame < GIVEN] < 0

    return unwanted


def _acceptable(motion: Motion) -> bool:
    """Whether the scene so far meets all conditions."""
    if motion.twice or motion.given_up:
        return False
    inside = in_view(motion.position)
    for frame, a, b in motion.collisions:
        if not (inside[frame, a] and inside[frame, b]) or not _noticeable(motion, frame, (a, b)):
            return False
        if frame >= GIVEN and not inside[:GIVEN, [a, b]].any(axis=0).all():
            return False
    flips = [(k, kind) for _, k, kind in crossings(inside)]
    return len(set(flips)) == len(flips) and bool((inside[:GIVEN].sum(axis=0) >= SEEN).all())


def _things(rng: np.random.Generator, count: int) -> list[Thing]:
    kinds = [Thing(c, m, s) for c in COLORS for m in MATERIALS for s in SHAPES]
    return [kinds[i] for i in rng.choice(len(kinds), size=count, replace=False)]


def _arriving(rng: np.random.Generator, thing: Thing, point: np.ndarray, frame: int, heading: float, speed: float) -> Body:
    """An object that reaches `point` in `frame`, moving towards `heading` (radians) at `speed` (units per second)."""
    time, slowing = frame / FPS, TABLE_FRICTION[thing.material]
    direction = np.array([math.cos(heading), math.sin(heading)])
    start = point - direction * (speed * time + 0.5 * slowing * time**2)
    velocity = direction * (speed + slowing * time)
    spin = float(rng.uniform(-2, 2)) if rng.random() < 0.5 else 0.0
    return Body(thing, (float(start[0]), float(start[1])), (float(velocity[0]), float(velocity[1])), _angle(rng), spin)


def _resting(rng: np.random.Generator, thing: Thing, point: np.ndarray) -> Body:
    return Body(thing, (float(point[0]), float(point[1])), angle=_angle(rng))


def _angle(rng: np.random.Generator) -> float:
    return float(rng.uniform(-math.pi, math.pi))


def _random_point(rng: np.random.Generator, share: float) -> np.ndarray:
    """A point within the middle `share` of the view along each axis."""
    return np.asarray(rng.uniform(-1, 1, size=2) * np.array(VIEW) * share)


def _passing(rng: np.random.Generator, thing: Thing, frame: int) -> Body:
    """A moving object that passes the middle of the view."""
    return _arriving(rng, thing, _random_point(rng, 0.7), frame, _angle(rng), rng.uniform(0.6, 2.0))


def _hitting(rng: np.random.Generator, motion: Motion, thing: Thing, window: tuple[int, int]) -> Body | None:
    """An object that meets a present one in a frame of the window: at rest on its path, or moving towards it."""
    frame = int(rng.integers(window[0], window[1] + 1))
    place, velocity = motion.position[frame], motion.velocity[frame]
    candidates = np.nonzero((np.abs(place) < np.array(VIEW) * 0.9).all(axis=-1))[0]
    if not len(candidates):
        return None
    target = candidates[rng.integers(len(candidates))]
    pace = math.hypot(*velocity[target])
    if pace > 0.25 and rng.random() < 0.6:
        normal = math.atan2(velocity[target, 1], velocity[target, 0]) + rng.uniform(-0.9, 0.9)
        point = place[target] + 2 * RADIUS * np.array([math.cos(normal), math.sin(normal)])
        return _resting(rng, thing, point) if in_view(point) else None
    normal = _angle(rng)
    heading = normal + rng.uniform(-0.7, 0.7)
    speed = rng.uniform(0.15, 1.2) if frame >= GIVEN else rng.uniform(0.4, 2.0)  # fast and late: a start too far away
    toward = np.array([math.cos(normal), math.sin(normal)])
    closing = speed * math.cos(heading - normal) - float(velocity[target] @ toward)
    if closing < 0.2:
        return None
    return _arriving(rng, thing, place[target] - 2 * RADIUS * toward, frame, heading, speed)


def _bystander(rng: np.random.Generator, motion: Motion, thing: Thing) -> Body:
    """An object intended to touch nothing: at rest, passing, or moving towards an object and stopping before it."""
    kind = rng.random()
    if kind < 0.15:
        return _resting(rng, thing, _random_point(rng, 0.9))
    if kind < 0.3:
        return _passing(rng, thing, frame=int(rng.integers(0, TOTAL - 40)))
    frame = int(rng.integers(GIVEN + 5, TOTAL))
    target = motion.position[frame, rng.integers(motion.position.shape[1])]
    heading = _angle(rng)
    away = 2 * RADIUS + rng.uniform(0.1, 0.6)
    point = target - away * np.array([math.cos(heading), math.sin(heading)])
    return _arriving(rng, thing, point, frame, heading, 0.0)


def _scene(index: int, bodies: list[Body], motion: Motion, order: np.ndarray) -> Scene:
    """The scene with its objects numbered by the random `order` instead of the order of building."""
    number = np.argsort(order)
    without = {k: simulate(bodies, absent=int(built)) for k, built in enumerate(order)}
    return Scene(
        index=index,
        things=[bodies[built].thing for built in order],
        position=motion.position[:, order].astype(np.float32),
        velocity=motion.velocity[:, order].astype(np.float32),
        orientation=motion.orientation[:, order].astype(np.float32),
        inside=in_view(motion.position[:, order]),
        collisions=_renumbered(motion.collisions, number),
        without={k: _renumbered(run.collisions, number) for k, run in without.items()},
        without_position={k: run.position[:, order].astype(np.float32) for k, run in without.items()},
        contact=motion.contact[:, order][:, :, order],
    )


def _renumbered(collisions: list[tuple[int, int, int]], number: np.ndarray) -> list[tuple[int, int, int]]:
    renamed = ((frame, int(number[a]), int(number[b])) for frame, a, b in collisions)
    return sorted((frame, min(a, b), max(a, b)) for frame, a, b in renamed)
