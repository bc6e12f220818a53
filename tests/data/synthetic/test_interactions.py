"""True interactions of windows compared with loops, and with positions and velocities."""

from __future__ import annotations

import numpy as np
import pytest

from ctt.core.build_context import BuildContext
from ctt.data.data_settings import DataSettings
from ctt.data.dataset import Dataset
from ctt.data.scene import FPS
from ctt.data.synthetic.interactions import Interactions
from ctt.data.synthetic.physics import CORNER, TABLE_FRICTION
from ctt.data.synthetic.writing import generate
from ctt.data.windows import Windows

HISTORY, AHEAD, SKIP = 3, 2, 5
SPAN = (HISTORY + AHEAD - 1) * SKIP + 1


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generate(DataSettings(train=8, validation=1, swap_probability=1.0, workers=1), BuildContext(folder))
    return Dataset.open(folder).split("train")


@pytest.fixture(scope="module")
def windows(split):
    return Windows(split.slots, HISTORY, AHEAD, SKIP, True)


def found(split, windows):
    return Interactions(split.truth, windows).among_slots(np.arange(windows.count))


def test_a_windows_interactions_are_the_contacts_of_all_its_frames(split, windows):
    touched = found(split, windows)
    truth, number = split.truth, 0
    for video in range(split.videos):
        for start in range(windows.starts):
            expected = np.zeros((7, 7), dtype=bool)
            for frame in range(start, start + SPAN):
                for a in range(truth.objects[video]):
                    for b in range(truth.objects[video]):
                        if truth.contact[video, frame, a, b]:
                            expected[truth.slot_of[video, frame, a], truth.slot_of[video, frame, b]] = True
            assert np.array_equal(touched[number], expected)
            number += 1
    assert number == windows.count and 0.01 < touched.mean() < 0.2
    assert not touched[:, np.arange(7), np.arange(7)].any() and np.array_equal(touched, touched.transpose(0, 2, 1))


def test_interactions_agree_with_trajectories(split, windows):
    """A pair that is near and whose velocities both jump has collided; a pair that is always far apart has not."""
    touched, order = found(split, windows), np.random.default_rng(0).permutation(windows.count)[:200]
    events = quiet = 0
    for number in order:
        video, start = divmod(int(number), windows.starts)
        scene = split.truth.scene(video)
        frames = slice(start, start + SPAN)
        slot_of = split.truth.slot_of[video, frames]
        if (slot_of != slot_of[0]).any():
            continue  # slots exchange their objects here: see the test above
        jump = np.linalg.norm(np.diff(scene.velocity.astype(float), axis=0), axis=-1)
        kicked = jump > np.array([TABLE_FRICTION[thing.material] for thing in scene.things]) / FPS + 1e-3
        for a in range(len(scene.things)):
            for b in range(len(scene.things)):
                apart = np.linalg.norm(scene.position[:, a].astype(float) - scene.position[:, b], axis=-1)
                touches = touched[number, slot_of[0, a], slot_of[0, b]]
                inner = slice(start + 1, start + SPAN - 1)  # a jump is in the frame before or after the contact
                near = apart[inner] < 2 * CORNER
                if a != b and (near & kicked[inner, a] & kicked[inner, b]).any() and alone(scene, a, b, frames):
                    assert touches
                    events += 1
                if a != b and (apart[frames] > 2 * CORNER + 0.02).all():
                    assert not touches
                    quiet += 1
    assert events > 20 and quiet > 1000


def alone(scene, a, b, frames):
    """Whether no other object comes near either of the two."""
    others = [k for k in range(len(scene.things)) if k not in (a, b)]
    gaps = [np.linalg.norm(scene.position[frames, k] - scene.position[frames, j], axis=-1) for k in others for j in (a, b)]
    return all((gap > 2 * CORNER).all() for gap in gaps)
