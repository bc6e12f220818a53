"""The simulation compared with analytical mechanics."""

from __future__ import annotations

import gc
import math
from itertools import combinations

import numpy as np
import psutil
import pytest

from ctt.data.scene import FPS, TOTAL, Thing
from ctt.data.synthetic.physics import (
    APART,
    CORNER,
    RADIUS,
    RESTITUTION,
    TABLE_FRICTION,
    Body,
    glide,
    moment,
    simulate,
)
from tests.data.synthetic.scenes import some_scenes

ROUND = [Thing("red", "metal", "sphere"), Thing("blue", "metal", "cylinder"), Thing("green", "rubber", "sphere")]


@pytest.mark.parametrize("material", ["metal", "rubber"])
def test_a_lone_object_slows_down_evenly_and_stops(material):
    body = Body(Thing("red", material, "sphere"), (-2.0, 0.5), (0.3, -0.1))
    motion = simulate([body])
    speed = np.hypot(*motion.velocity[:, 0].T)
    expected = np.maximum(0, speed[0] - TABLE_FRICTION[material] * np.arange(TOTAL) / FPS)
    assert np.allclose(speed, expected, atol=1e-6)
    assert speed[-1] == 0
    assert np.abs(motion.position[:, 0] - glide(body)).max() < 0.02
    assert motion.collisions == []


@pytest.mark.parametrize(("first", "second"), [(0, 1), (0, 2), (2, 1)])
def test_a_head_on_impact_conserves_momentum_and_has_the_set_restitution(first, second):
    a, b = ROUND[first], ROUND[second]
    motion = simulate([Body(a, (-1.0, 0.0), (2.0, 0.0)), Body(b, (0.0, 0.0))], frames=60)
    ((frame, *pair),) = motion.collisions
    assert pair == [0, 1]
    before, after = motion.velocity[frame - 1], motion.velocity[frame + 1]
    lost = (TABLE_FRICTION[a.material] + TABLE_FRICTION[b.material]) * 2 / FPS
    assert before[:, 0].sum() - after[:, 0].sum() == pytest.approx(0, abs=lost + 1e-9)
    ratio = (after[1, 0] - after[0, 0]) / (before[0, 0] - before[1, 0])
    assert ratio == pytest.approx(RESTITUTION[a.material] * RESTITUTION[b.material], abs=0.06)


def test_energy_never_grows():
    for scene in some_scenes():
        spin = np.gradient(np.unwrap(scene.orientation.astype(float), axis=0), 1 / FPS, axis=0)
        inertia = np.array([moment(thing.shape) for thing in scene.things])
        moving = 0.5 * (scene.velocity.astype(float) ** 2).sum(axis=(1, 2))
        energy = moving + 0.5 * (inertia * spin**2).sum(axis=1)
        touching = scene.contact.any(axis=(1, 2)).astype(int)
        quiet = np.convolve(touching, np.ones(5), mode="same") == 0  # spins are differences of angles: blurred at impacts
        assert moving[0] > 0 and quiet.sum() > 100
        assert (np.diff(energy[quiet]) <= 1e-4 * energy[0]).all()


def test_momentum_changes_no_faster_than_the_table_can_brake():
    for scene in some_scenes():
        momentum = scene.velocity.astype(float).sum(axis=1)
        brake = sum(TABLE_FRICTION[thing.material] for thing in scene.things) / FPS
        assert np.hypot(*np.diff(momentum, axis=0).T).max() <= brake + 1e-5


def worlds(scene):
    """(positions, collisions) of a scene as it is and without each of its objects."""
    yield scene.position.astype(float), scene.collisions
    for k, position in scene.without_position.items():
        yield position.astype(float), scene.without[k]


def test_collisions_agree_with_distances():
    """Including the future and the simulations without an object."""
    met = without = 0
    for scene in some_scenes(24):
        for position, collisions in worlds(scene):
            listed = {(a, b): frame for frame, a, b in collisions}
            velocity = np.diff(position, axis=0, append=position[-1:])  # units a frame
            there = np.flatnonzero(np.isfinite(position[0, :, 0]))
            for a, b in combinations(there.tolist(), 2):
                gap = np.hypot(*(position[:, a] - position[:, b]).T) - 2 * RADIUS
                corners = sum(scene.things[k].shape == "cube" for k in (a, b))
                reach = corners * (CORNER - RADIUS)  # corners protrude: contact begins anywhere up to there
                closing = np.hypot(*(velocity[:, a] - velocity[:, b]).T)
                if (a, b) in listed:
                    frame = listed[a, b]
                    assert gap[frame - 1 : frame + 1].min() <= reach + closing[max(0, frame - 2) : frame].max() + 0.01
                    assert (gap[: frame - 1] > -0.01).all()
                    if reach == 0:
                        assert (gap[:frame] > -0.005).all(), "they had touched before"
                else:
                    assert (gap > -0.005).all(), "they overlap but are not listed"
            met += len(listed)
            without += len(listed) if len(there) < len(scene.things) else 0
    assert without > 150 and met - without > 40


@pytest.mark.parametrize("shape", ["sphere", "cube"])
def test_metal_bounces_more_slides_farther_and_grips_less(shape):
    """The same impact per material: speed of the hit object, distance of a free slide, rotation of the hit object."""
    hit, far, turned = {}, {}, {}
    for material in ("metal", "rubber"):
        thing, other = Thing("red", material, shape), Thing("blue", material, "sphere")
        straight = simulate([Body(thing, (-1.0, 0.0), (1.5, 0.0)), Body(other, (0.0, 0.0))])
        ((frame, _, _),) = straight.collisions
        before, after = straight.velocity[frame - 2, :, 0], straight.velocity[frame + 1, :, 0]
        hit[material] = (after[1] - after[0]) / (before[0] - before[1])
        lone = simulate([Body(thing, (-2.0, 0.0), (0.5, 0.0))])
        far[material] = lone.position[-1, 0, 0] - lone.position[0, 0, 0]
        aside = simulate([Body(thing, (-1.0, 0.25), (1.5, 0.0)), Body(other, (0.0, 0.0))])
        ((frame, _, _),) = aside.collisions
        turned[material] = abs(aside.orientation[frame + 1, 1] - aside.orientation[frame - 1, 1])
    assert hit["metal"] > hit["rubber"] + 0.1 and far["metal"] > 1.5 * far["rubber"]
    assert turned["rubber"] > 1.1 * turned["metal"] > 0


def test_every_collision_changes_velocities_and_nothing_else_does():
    for scene in some_scenes(24):
        speed_change = np.hypot(*np.moveaxis(np.diff(scene.velocity.astype(float), axis=0), -1, 0))  # (177, N)
        brake = np.array([TABLE_FRICTION[thing.material] for thing in scene.things]) / FPS
        kicked = speed_change > brake + 1e-5
        touching = scene.contact.any(axis=2)
        assert not (kicked & ~touching[1:] & ~touching[:-1]).any()
        for frame, a, b in scene.collisions:
            near = slice(frame - 1, frame + 2)
            assert kicked[near, a].any() and kicked[near, b].any()


def test_contacts_begin_with_the_collision_and_do_not_recur():
    for scene in some_scenes(24):
        assert (scene.contact == scene.contact.transpose(0, 2, 1)).all()
        pairs = {(a, b): frame for frame, a, b in scene.collisions}
        for a, b in zip(*np.nonzero(np.triu(scene.contact.any(axis=0))), strict=True):
            frames = np.nonzero(scene.contact[:, a, b])[0]
            assert frames[0] == pairs.pop((a, b))
            assert (np.diff(frames) <= APART + 1).all()
        assert pairs == {}


def test_an_object_that_touches_nothing_can_be_left_out():
    lonely = 0
    for scene in some_scenes(24):
        touched = {k for _, a, b in scene.collisions for k in (a, b)}
        for k in set(range(len(scene.things))) - touched:
            lonely += 1
            others = [i for i in range(len(scene.things)) if i != k]
            assert np.array_equal(scene.without_position[k][:, others], scene.position[:, others])
            assert np.isnan(scene.without_position[k][:, k]).all()
            assert scene.without[k] == scene.collisions
    assert lonely > 3


def test_leaving_an_object_out_changes_nothing_before_its_first_collision():
    changed = 0
    for scene in some_scenes(24):
        for k, run in scene.without_position.items():
            frames = [frame for frame, a, b in scene.collisions if k in (a, b)]
            first = min(frames, default=TOTAL)
            others = [i for i in range(len(scene.things)) if i != k]
            assert np.array_equal(run[: first - 1, others], scene.position[: first - 1, others])
            before = [c for c in scene.collisions if c[0] < first]
            assert [c for c in scene.without[k] if c[0] < first] == before
            assert all(k not in (a, b) for _, a, b in scene.without[k])
            changed += scene.without[k] != scene.collisions
    assert changed > 24


def test_unwanted_collisions_end_the_run():
    bodies = [Body(ROUND[0], (-1.0, 0.0), (2.0, 0.0)), Body(ROUND[1], (0.0, 0.0))]
    ((frame, _, _),) = simulate(bodies).collisions
    cut = simulate(bodies, unwanted=lambda when, a, b: when == frame)
    assert cut.given_up and len(cut.position) == frame
    assert not simulate(bodies, unwanted=lambda when, a, b: when != frame).given_up


def test_a_second_collision_of_a_pair_is_detected():
    a, b = ROUND[2], ROUND[0]
    # b hits a and is slow afterwards; a third object pushes a back to it
    bodies = [
        Body(a, (0.0, 0.0)),
        Body(b, (-1.0, 0.0), (2.0, 0.0)),
        Body(ROUND[1], (2.5, 0.0), (-2.0, 0.0)),
    ]
    motion = simulate(bodies)
    assert motion.twice
    assert len({(x, y) for _, x, y in motion.collisions}) == len(motion.collisions)


def test_moments_of_inertia_are_ordered_by_shape():
    assert moment("sphere") < moment("cylinder") < moment("cube")
    assert moment("cube") == pytest.approx((2 * RADIUS) ** 2 / 6)
    assert math.isclose(CORNER, RADIUS * 2**0.5)


def test_simulations_leave_no_memory_behind():
    """pymunk never frees a buffer: one a simulation were 50 kB each, 12 GB for 20,000 scenes."""
    bodies = [Body(Thing("red", "metal", "sphere"), (2.0 * k, 0.0), (0.1 * k, 0.5)) for k in range(6)]
    process = psutil.Process()
    for _ in range(50):
        simulate(bodies)
    gc.collect()
    before = process.memory_info().rss
    first = simulate(bodies)
    for _ in range(300):
        again = simulate(bodies)
    gc.collect()
    assert process.memory_info().rss - before < 6 << 20
    assert (first.position == again.position).all()
