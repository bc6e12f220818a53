"""What a slot encodes, and what it must not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ctt.config import compose
from ctt.data.data_settings import DataSettings
from ctt.data.scene import VIEW
from ctt.data.synthetic.slot_encoder import SLOTS, WIDTH, SlotEncoder, assign, render
from tests.data.synthetic.scenes import some_scenes

ENCODER = SlotEncoder(0)
QUIET = DataSettings(noise=0.0)


def rng():
    return np.random.default_rng(3)


def by_object(scene, settings):
    """Slots and visibility in the scene's own order of objects, (178, N, 128) and (178, N), and the empty slots."""
    slots, visible, slot_of = render(scene, ENCODER, settings, rng())
    frames = np.arange(len(slots))[:, None]
    rest = np.ones(slots.shape[:2], dtype=bool)
    rest[frames, slot_of] = False
    return slots[frames, slot_of], visible[frames, slot_of], slots[rest]


def test_velocity_leaves_no_trace():
    for scene in some_scenes():
        other = dataclasses.replace(scene, velocity=-3 * scene.velocity + 1, collisions=[], contact=None)
        assert np.array_equal(render(scene, ENCODER, QUIET, rng())[0], render(other, ENCODER, QUIET, rng())[0])


def test_a_frame_does_not_depend_on_other_frames():
    scene = some_scenes()[0]
    order = np.random.default_rng(1).permutation(len(scene.position))
    mixed = dataclasses.replace(
        scene, position=scene.position[order], orientation=scene.orientation[order], inside=scene.inside[order]
    )
    assert np.array_equal(by_object(mixed, QUIET)[0], by_object(scene, QUIET)[0][order])


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_position_can_be_read_linearly(noise):
    pairs = [(by_object(s, DataSettings(noise=noise))[0], s) for s in some_scenes(24)]
    slots = [np.concatenate([x[s.inside][::5] for x, s in part]) for part in (pairs[:16], pairs[16:])]
    place = [np.concatenate([s.position[s.inside][::5] for _, s in part]) for part in (pairs[:16], pairs[16:])]
    with_one = [np.concatenate([x, np.ones((len(x), 1))], axis=1) for x in slots]
    weights = np.linalg.lstsq(with_one[0], place[0], rcond=None)[0]
    error = with_one[1] @ weights - place[1]
    assert 1 - (error**2).sum() / ((place[1] - place[1].mean(axis=0)) ** 2).sum() > 0.99


def test_the_spread_between_objects_is_one_and_noise_relates_to_it():
    quiet = np.concatenate([by_object(scene, QUIET)[0][::40].reshape(-1, WIDTH) for scene in some_scenes(24)])
    assert np.sqrt(quiet.var(axis=0).mean()) == pytest.approx(1, abs=0.2)
    scene = some_scenes()[0]
    for settings, noise in (
        (DataSettings(), 0.1),
        (compose(["data=synthetic"]).data, 0.1),
        (DataSettings(noise=0.25), 0.25),
    ):
        difference = render(scene, ENCODER, settings, rng())[0] - render(scene, ENCODER, QUIET, rng())[0]
        assert difference.std() == pytest.approx(noise, rel=0.02)
    # noise is independent across frames, slots and dimensions
    assert abs(np.corrcoef(difference[:-1].ravel(), difference[1:].ravel())[0, 1]) < 0.02


def test_a_cube_turned_by_a_quarter_looks_the_same_and_round_objects_always_do():
    scene = some_scenes()[0]
    cubes = np.array([thing.shape == "cube" for thing in scene.things])
    seen = by_object(scene, QUIET)[0]
    quarter = dataclasses.replace(scene, orientation=scene.orientation + np.float32(np.pi / 2))
    assert np.allclose(by_object(quarter, QUIET)[0], seen, atol=1e-4)
    eighth = by_object(dataclasses.replace(scene, orientation=scene.orientation + np.float32(np.pi / 4)), QUIET)[0]
    assert np.array_equal(eighth[:, ~cubes], seen[:, ~cubes])
    if cubes.any():
        assert np.abs(eighth - seen)[:, cubes].max() > 0.1


def leaving():
    for scene in some_scenes(24):
        for k in range(len(scene.things)):
            if not scene.inside[:, k].all():
                return scene, k
    raise AssertionError("nothing leaves the view in any scene")


def test_out_of_view_an_object_stays_at_the_border_when_clamped():
    scene, k = leaving()
    outside = ~scene.inside[:, k]
    slots, visible, _ = by_object(scene, QUIET)
    assert not visible[outside, k].any() and visible[~outside, k].all()
    border = dataclasses.replace(scene, position=np.clip(scene.position, -np.float32(VIEW), np.float32(VIEW)))
    assert np.allclose(by_object(border, DataSettings(noise=0.0, out_of_view="true"))[0][:, k], slots[:, k], atol=1e-5)
    true = by_object(scene, DataSettings(noise=0.0, out_of_view="true"))[0]
    assert np.abs(true[outside, k] - slots[outside, k]).max() > 0.05
    assert np.array_equal(true[~outside, k], slots[~outside, k])


def test_out_of_view_an_object_is_an_empty_slot_when_hidden():
    scene, k = leaving()
    outside = ~scene.inside[:, k]
    slots, _, empty = by_object(scene, DataSettings(noise=0.0, out_of_view="hidden"))
    assert (slots[outside, k] == empty[0]).all() and (empty == empty[0]).all()
    assert np.abs(slots[~outside, k] - empty[0]).max(axis=1).min() > 0.5


def test_slots_keep_their_objects_within_a_video_but_not_across_videos():
    orders = {tuple(assign(np.random.default_rng(i), 5, 0.0)[0]) for i in range(40)}
    assert len(orders) > 30
    for i in range(20):
        slot_of = assign(np.random.default_rng(i), 5, 0.0)
        assert (slot_of == slot_of[0]).all()
        assert len(set(slot_of[0])) == 5 and set(slot_of[0]) <= set(range(SLOTS))


def test_identities_swap_once_in_the_given_share_of_videos():
    swapped = 0
    for i in range(400):
        slot_of = assign(np.random.default_rng(i), 4, 0.3)
        changes = (np.diff(slot_of, axis=0) != 0).any(axis=1).sum()
        assert changes in (0, 1)
        assert all(len(set(row)) == 4 for row in slot_of)
        swapped += changes
        assert np.array_equal(assign(np.random.default_rng(i), 4, 0.0)[0], slot_of[0])
    assert 0.22 < swapped / 400 < 0.38


def test_the_encoder_is_determined_by_its_seed():
    shown = np.random.default_rng(0).standard_normal((10, 18))
    assert np.array_equal(SlotEncoder(0).encode(shown), ENCODER.encode(shown))
    assert np.abs(SlotEncoder(1).encode(shown) - ENCODER.encode(shown)).max() > 1
