"""The generated data set: independent of the number of workers, with CLEVRER's shares where they are known."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ctt.core.build_context import BuildContext
from ctt.core.errors import Interrupted, SettingError
from ctt.data.data_settings import DataSettings
from ctt.data.dataset import Dataset
from ctt.data.scene import GIVEN, TOTAL, crossings, in_view
from ctt.data.synthetic import writing
from ctt.data.synthetic.generator import OUTLINES, make_scene
from ctt.data.synthetic.slot_encoder import SlotEncoder, render
from tests.data.synthetic.scenes import some_scenes

SMALL = DataSettings(train=23, validation=3, test=2, annotations=True)


def written(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "progress.json"}


def make(folder, settings=SMALL, workers=1):
    folder.mkdir()
    writing.generate(settings, BuildContext(folder, workers=workers))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make(tmp_path_factory.mktemp("data") / "one")


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_bytes(folder, tmp_path):
    """Three chunks, each by its own worker."""
    three = written(make(tmp_path / "three", workers=3))
    assert written(folder) == three


def test_a_scene_depends_on_neither_the_size_of_the_set_nor_the_noise(folder, tmp_path):
    other = DataSettings(train=2, validation=1, noise=0.3, encoder_seed=5, out_of_view="hidden")
    few = Dataset.open(make(tmp_path / "few", other)).split("train").truth
    many = Dataset.open(folder).split("train").truth
    assert np.array_equal(few.position[:2], many.position[:2], equal_nan=True)
    again = DataSettings(train=2, validation=1, seed=1)
    assert not np.array_equal(
        Dataset.open(make(tmp_path / "again", again)).split("train").truth.position[:2],
        few.position[:2],
        equal_nan=True,
    )


def test_splits_have_different_scenes(folder):
    dataset = Dataset.open(folder)
    places = [dataset.split(split).truth.position[0] for split in dataset.splits]
    assert len({place.tobytes() for place in places}) == 3


def test_files_contain_the_simulated_scene(folder):
    split = Dataset.open(folder).split("train")
    rng = writing.stream(SMALL.seed, "train", 21, "scene")
    scene, read = make_scene(21, rng), split.truth.scene(21)
    for field in dataclasses.fields(scene):
        a, b = getattr(scene, field.name), getattr(read, field.name)
        if field.name == "without_position":
            assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k], equal_nan=True) for k in a)
        elif isinstance(a, np.ndarray):
            assert np.array_equal(a, b) and a.dtype == b.dtype, field.name
        else:
            assert a == b, field.name
    slots, visible, slot_of = render(scene, SlotEncoder(0), SMALL, writing.stream(SMALL.seed, "train", 21, "slots"))
    assert np.array_equal(np.concatenate([split.slots[21], split.future[21]]), slots)
    assert np.array_equal(split.visible[21], visible)
    assert np.array_equal(split.truth.slot_of[21, :, : len(scene.things)], slot_of)


def test_the_test_split_has_no_answers(folder):
    train, test = (json.loads((folder / f"questions_{split}.json").read_text()) for split in ("train", "test"))
    assert [scene["scene_index"] for scene in test] == [15_000, 15_001]
    assert len(train) == 23 and all(scene["questions"] for scene in train + test)
    assert '"answer"' in json.dumps(train) and '"program"' in json.dumps(train)
    assert '"answer"' not in json.dumps(test) and '"program"' not in json.dumps(test)
    assert not (folder / "annotations_test.zip").exists()


def test_annotations_have_the_official_schema(folder):
    truth = Dataset.open(folder).split("validation").truth
    with zipfile.ZipFile(folder / "annotations_validation.zip") as archive:
        assert archive.namelist() == [f"annotation_{10_000 + v:05d}.json" for v in range(3)]
        record = json.loads(archive.read("annotation_10001.json"))
    scene = truth.scene(1)
    assert list(record) == ["scene_index", "video_filename", "object_property", "motion_trajectory", "collision"]
    assert record["scene_index"] == 10_001 and record["video_filename"] == "video_10001.mp4"
    assert [frame["frame_id"] for frame in record["motion_trajectory"]] == list(range(GIVEN))
    for frame in (0, 60, 127):
        for k, shown in enumerate(record["motion_trajectory"][frame]["objects"]):
            assert shown["object_id"] == k and shown["inside_camera_view"] == scene.inside[frame, k]
            assert np.allclose(shown["location"][:2], scene.position[frame, k], atol=1e-4)
            assert all(len(shown[key]) == 3 for key in ("location", "orientation", "velocity", "angular_velocity"))
    collisions = [(c["frame_id"], *c["object_ids"]) for c in record["collision"]]
    assert collisions == [c for c in scene.collisions if c[0] < GIVEN]


def test_scenes_meet_the_conditions_of_the_generator():
    for scene in some_scenes(24):
        count = len(scene.things)
        assert 4 <= count <= 6 and len(set(scene.things)) == count
        assert scene.position.shape == (TOTAL, count, 2) and np.isfinite(scene.position).all()
        assert np.array_equal(scene.inside, in_view(scene.position))
        assert scene.collisions == sorted(scene.collisions)
        assert all(a < b for _, a, b in scene.collisions)
        assert len({(a, b) for _, a, b in scene.collisions}) == len(scene.collisions)
        given = sum(frame < GIVEN for frame, _, _ in scene.collisions)
        later = len(scene.collisions) - given
        assert (count, given, min(later, 1)) in OUTLINES
        assert all(scene.inside[frame, [a, b]].all() for frame, a, b in scene.collisions)
        flips = [(k, kind) for _, k, kind in crossings(scene.inside)]
        assert len(flips) == len(set(flips))
        assert scene.inside[:GIVEN].any(axis=0).all()
        assert sorted(scene.without) == sorted(scene.without_position) == list(range(count))


def test_outlines_have_the_shares_of_real_scenes():
    def share(test):
        return sum(p for outline, p in OUTLINES.items() if test(*outline)) / sum(OUTLINES.values())

    for objects, wanted in ((4, 0.4), (5, 0.4), (6, 0.2)):
        assert share(lambda n, g, f, objects=objects: n == objects) == pytest.approx(wanted, abs=0.01)
    for given, wanted in ((2, 19 / 30), (3, 10 / 30), (4, 1 / 30)):
        assert share(lambda n, g, f, given=given: g == given) == pytest.approx(wanted, abs=0.03)
    assert share(lambda n, g, f: f == 1) == pytest.approx(0.73, abs=0.02)


def test_crossings_name_the_first_frame_of_the_new_state():
    inside = np.array([[0, 1, 1], [1, 1, 1], [1, 0, 1], [1, 0, 1]], dtype=bool)
    assert crossings(inside) == [(1, 0, "in"), (2, 1, "out")]


def test_attributes_are_drawn_evenly(folder):
    truth = Dataset.open(folder).split("train").truth
    seen = Counter(int(c) for c in truth.color.ravel() if c >= 0)
    assert sum(seen.values()) == truth.objects.sum() and len(seen) == 8


def test_a_stop_signal_leaves_no_data_set(tmp_path, monkeypatch):
    monkeypatch.setattr(BuildContext, "stopping", property(lambda self: True))
    for workers in (1, 2):
        with pytest.raises(Interrupted):
            make(tmp_path / str(workers), workers=workers)
        assert not (tmp_path / str(workers) / "dataset.json").exists()


def test_a_stop_signal_is_heard_although_no_chunk_is_waited_for(tmp_path, monkeypatch):
    """As where choosing the questions takes longer than simulating, so that the next chunk is always ready."""
    added, add = [], writing._Writer.add

    def slowly(self, made):
        add(self, made)
        added.append(made)
        time.sleep(3 if len(added) == 1 else 0)  # meanwhile all others are made

    monkeypatch.setattr(writing._Writer, "add", slowly)
    monkeypatch.setattr(BuildContext, "stopping", property(lambda self: bool(added)))
    with pytest.raises(Interrupted):
        make(tmp_path / "set", dataclasses.replace(SMALL, train=40), workers=2)
    assert len(added) == 1


def test_after_a_stop_signal_workers_break_off_their_chunks(tmp_path, monkeypatch):
    """Five chunks are handed out to two workers before the first one is ready, and a chunk is 10 videos."""
    monkeypatch.setattr(BuildContext, "stopping", property(lambda self: True))
    with pytest.raises(Interrupted):
        make(tmp_path / "set", dataclasses.replace(SMALL, train=100), workers=2)
    written = np.load(tmp_path / "set" / "slots_train.npy").any(axis=(1, 2, 3)).sum()
    assert written < 2 * writing.CHUNK


RUN = """
import sys
from pathlib import Path
from ctt.data.data_settings import DataSettings
from ctt.data.synthetic.writing import generate
from ctt.core.build_context import BuildContext, stop_on_signals
if __name__ == "__main__":
    stop_on_signals()
    generate(DataSettings(train=5000), BuildContext(Path(sys.argv[1]), workers=2))
"""


def processes(text):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if text in (folder / "environ").read_bytes().decode(errors="replace"):
                found.append(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc, which is absent")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_do_not_outlive_the_process_that_started_them(number, tmp_path):
    script, folder, variable = tmp_path / "run.py", tmp_path / "data", f"TEST_RUN={tmp_path}"
    script.write_text(RUN)
    folder.mkdir()
    path = os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TEST_RUN": str(tmp_path), "PYTHONPATH": path}
    process = subprocess.Popen([sys.executable, script, folder], env=environment, stderr=subprocess.PIPE, start_new_session=True)
    try:
        wait_until(lambda: done(folder / "progress.json") > 0)
        assert len(processes(variable)) >= 3
        if number == signal.SIGTERM:
            os.killpg(process.pid, number)  # like a cluster, to every process
        else:
            process.kill()
        error = process.communicate(timeout=60)[1]
        assert (b"Interrupted" in error) == (number == signal.SIGTERM)
        wait_until(lambda: not processes(variable))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def done(progress):
    return json.loads(progress.read_text())["done"] if progress.exists() else 0


def wait_until(true, seconds=90):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


def test_progress_ends_at_the_number_of_videos(folder):
    progress = json.loads((folder / "progress.json").read_text())
    assert (progress["done"], progress["total"], progress["unit"]) == (28, 28, "video")


def test_invalid_settings_are_refused():
    for wrong in (dict(kind="video"), dict(train=0), dict(noise=-0.1), dict(swap_probability=1.5), dict(seed=-1)):
        with pytest.raises(SettingError, match=next(iter(wrong))):
            DataSettings(**wrong)
    with pytest.raises(SettingError, match="annotations"):
        DataSettings(kind="clevrer", annotations=True)


def test_a_script_without_a_guard_is_not_run_again_by_the_workers(tmp_path):
    """Each worker would begin the same data set anew, and all would wait for each other."""
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "import ctt\n"
        "from ctt.core.build_context import BuildContext\n"
        "from ctt.data.data_settings import DataSettings\n"
        "from ctt.data.synthetic.writing import generate\n"
        "print('begun', flush=True)\n"
        f"folder = Path({str(tmp_path)!r}, 'made')\n"
        "folder.mkdir()\n"
        "settings = DataSettings(kind='synthetic', train=20, validation=10, test=0)\n"
        "generate(settings, BuildContext(folder, workers=2))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "begun\n"), done.stderr
    assert (tmp_path / "made" / "dataset.json").exists()
