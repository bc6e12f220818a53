"""CLEVRER's files as a data set: linked, checked, and identified by their content."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from ctt.config import compose
from ctt.core.build_context import BuildContext
from ctt.core.errors import DataError
from ctt.data.clevrer import source_files
from ctt.data.clevrer.slots_import import import_slots
from ctt.data.clevrer.source_files import assemble, find, resolved
from ctt.data.data_settings import DataSettings
from ctt.data.dataset import Dataset
from ctt.planning import compile_plan, target_of
from ctt.stages.base import build
from ctt.stages.data import Data
from ctt.store import Store
from ctt.sweep import compile_sweep, without_inactive
from tests.data.clevrer.official_files import FIRST, scene, slots_tree, write_pickle, write_questions

COUNTS = {"train": 3, "val": 2, "test": 1}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source_files._known_hash.cache_clear()


def files(tmp_path, counts=COUNTS, names=None, questioned=None, **tree) -> DataSettings:
    imported = import_slots(write_pickle(tmp_path / "s.pkl", slots_tree(counts, **tree)), tmp_path / "slots")
    questions = write_questions(tmp_path / "questions", questioned or counts, names)
    return DataSettings(kind="clevrer", slots_file=str(imported.folder), questions=str(questions))


def assembled(settings, folder) -> Dataset:
    folder.mkdir(parents=True)
    assemble(settings, BuildContext(folder))
    return Dataset.open(folder)


@pytest.mark.parametrize("names", [None, {"val": "val"}], ids=["validation.json", "val.json"])
def test_the_files_become_a_data_set(names, tmp_path):
    settings = files(tmp_path, names=names)
    dataset = assembled(settings, tmp_path / "d")
    assert (dataset.name, dataset.splits, dataset.has_truth) == ("clevrer", ("train", "validation", "test"), False)
    tree = slots_tree(COUNTS)
    for ours, theirs in (("train", "train"), ("validation", "val"), ("test", "test")):
        split = dataset.split(ours)
        assert split.scene_index.tolist() == list(range(FIRST[theirs], FIRST[theirs] + COUNTS[theirs]))
        for row, index in enumerate(split.scene_index):
            name = f"{index}_pixels.mp4" if theirs == "train" else f"video_{index:05d}.mp4"
            assert (split.slots[row] == tree[theirs][name]).all()
        assert len(split.questions) == 3 * COUNTS[theirs]
        assert split.questions.answered == (ours != "test")


def test_nothing_is_copied(tmp_path):
    settings = files(tmp_path)
    assembled(settings, tmp_path / "d")
    for split in ("train", "validation", "test"):
        assert os.path.samefile(tmp_path / "d" / f"slots_{split}.npy", tmp_path / "slots" / f"slots_{split}.npy")
    shutil.rmtree(tmp_path / "slots")
    assert Dataset.open(tmp_path / "d").split("train").slots.shape[0] == 3


def no_links(*_):
    raise OSError(errno.EXDEV, "Invalid cross-device link")


def test_across_file_systems_the_path_is_recorded(tmp_path, monkeypatch):
    settings = files(tmp_path)
    monkeypatch.setattr(os, "link", no_links)
    dataset = assembled(settings, tmp_path / "d")
    assert not list((tmp_path / "d").glob("*.npy"))
    assert (dataset.split("train").slots[0] == slots_tree(COUNTS)["train"]["0_pixels.mp4"]).all()
    (tmp_path / "slots").rename(tmp_path / "moved")
    with pytest.raises(DataError, match=r"slots_train\.npy is missing: the data set .* symbolic link"):
        Dataset.open(tmp_path / "d")
    (tmp_path / "slots").symlink_to(tmp_path / "moved")
    Dataset.open(tmp_path / "d")
    path = tmp_path / "moved" / "slots_train.npy"
    os.utime(path, (5, 5))
    Dataset.open(tmp_path / "d")  # another time, the same bytes
    with open(path, "r+b") as file:
        file.seek(5000)
        file.write(b"other")
    with pytest.raises(DataError, match=r"slots_train\.npy has changed since"):
        Dataset.open(tmp_path / "d")


@pytest.mark.parametrize("linked", [True, False])
def test_the_store_holds_such_a_data_set(linked, tmp_path, monkeypatch):
    settings = resolved(files(tmp_path))
    if not linked:
        monkeypatch.setattr(source_files, "link", lambda *_: False)
    store = Store.open(tmp_path / "store")
    artifact = build(Data(settings), store)
    assert artifact.manifest["facts"]["source"]["name"] == "s.pkl"
    assert store.verify(artifact.key) == []
    assert Dataset.open(artifact.path).split("train").slots.shape == (3, 128, 7, 128)
    assert build(Data(settings), store).path == artifact.path


def test_video_names_numbered_within_a_split(tmp_path):
    settings = files(tmp_path, within=True)
    folder = tmp_path / "d"
    folder.mkdir()
    facts = assemble(settings, BuildContext(folder))
    assert Dataset.open(folder).split("validation").scene_index.tolist() == [10_000, 10_001]
    assert facts["notes"] == [
        "validation: video 0 is scene 10000, as the questions number them",
        "test: video 0 is scene 15000, as the questions number them",
    ]


def test_a_subset_of_splits(tmp_path):
    settings = files(tmp_path, {"train": 3, "val": 2}, questioned=COUNTS)
    assert find(settings).left_out == "test is left out: it has no slots"
    assert assembled(settings, tmp_path / "d").splits == ("train", "validation")
    assert resolved(settings).counts() == {"train": 3, "validation": 2}


# ---- identity ----


def key(settings) -> str:
    return Data(resolved(settings)).key


def test_the_key_depends_on_the_content_only(tmp_path):
    settings = files(tmp_path)
    first = key(settings)
    shutil.copytree(tmp_path / "slots", tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "questions", tmp_path / "moved")
    (tmp_path / "moved" / "validation.json").rename(tmp_path / "moved" / "val.json")
    moved = DataSettings(kind="clevrer", slots_file=str(tmp_path / "elsewhere"), questions=str(tmp_path / "moved"))
    assert key(moved) == first
    for change in ({"seed": 3}, {"train": 77}, {"noise": 0.5}, {"workers": 9}):
        assert key(dataclasses.replace(settings, **change)) == first
    path = tmp_path / "questions" / "train.json"
    path.write_text(path.read_text().replace('"answer": "1"', '"answer": "2"'))
    assert key(settings) != first
    other = import_slots(write_pickle(tmp_path / "o.pkl", slots_tree(COUNTS, seed=1)), tmp_path / "o")
    assert key(dataclasses.replace(moved, slots_file=str(other.folder))) != first


def test_question_files_are_hashed_once(tmp_path, monkeypatch):
    settings = files(tmp_path)
    first = key(settings)
    source_files._known_hash.cache_clear()
    monkeypatch.setattr(source_files, "sha256_of", lambda path: pytest.fail(f"{path} is read again"))
    assert key(settings) == first


def test_the_hashes_cache_may_be_damaged_or_unwritable(tmp_path, monkeypatch):
    settings = files(tmp_path)
    first = key(settings)
    for text in ("", "[]", '{"x": 1}', "\x00"):
        (tmp_path / "cache" / "ctt" / "sha256.json").write_text(text)
        source_files._known_hash.cache_clear()
        assert key(settings) == first
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    source_files._known_hash.cache_clear()
    assert key(settings) == first


def test_a_synthetic_set_is_left_as_it_is():
    settings = DataSettings()
    assert settings.source.resolved(settings) is settings and not Data(settings).provisional
    assert "content" not in Data(settings).describe()["settings"]["data"]


def test_without_the_files_keys_are_provisional(tmp_path):
    plain = Data(without_inactive(compose(["data=clevrer"])).data)
    assert plain.provisional and plain.data.counts() == {"train": 10_000, "validation": 5_000, "test": 5_000}
    with pytest.raises(DataError, match=r"needs data.slots_file .* and data.questions .*`ctt data fetch`"):
        plain.check()
    settings = files(tmp_path)
    there = Data(resolved(settings))
    assert not there.provisional and there.key != plain.key
    gone = dataclasses.replace(settings, slots_file=str(tmp_path / "gone"))
    also = dataclasses.replace(settings, slots_file=str(tmp_path / "gone too"))
    assert len({key(gone), key(also), plain.key}) == 3


def test_a_sweep_over_slots_is_several_points_and_needs_no_files_afterwards(tmp_path, monkeypatch):
    settings = files(tmp_path)
    other = import_slots(write_pickle(tmp_path / "o.pkl", slots_tree(COUNTS, seed=1)), tmp_path / "o")
    overrides = [f"data.questions={settings.questions}", "seed=0"]
    sweep = compile_sweep(None, [*overrides, f"data.slots_file={settings.slots_file},{other.folder}"])
    plan = compile_plan(sweep)
    keys = {s.key for s in plan.stages.values() if s.kind == "data"}
    assert len(keys - {Data(resolved(DataSettings(kind="clevrer"))).key}) >= 2
    shutil.rmtree(tmp_path / "o")
    again = {target_of(point.config).rollout.state.data.key for point in sweep.points}
    assert again == keys  # a compiled sweep needs no files


# ---- errors in the files ----


def broken(tmp_path, name, change):
    settings = files(tmp_path)
    path = Path(settings.questions) / name
    scenes = json.loads(path.read_text())
    change(scenes)
    path.write_text(json.dumps(scenes))
    return settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scenes: scenes.pop(1), r"train.json has no questions for 1 train video \(scene 1\)"),
        (
            lambda scenes: scenes.append(scene(3)),
            r"train.json asks about 1 train video \(scene 3\) that has no slots; data.missing=skip leaves",
        ),
        (lambda scenes: scenes.append(scene(2)), r"train.json, scene 2: the scene occurs twice"),
        (lambda scenes: scenes[1].pop("questions"), r"train.json, scene 1: questions is missing"),
        (
            lambda scenes: scenes[1]["questions"][0].update(answer="7"),
            r"train.json, scene 1, question 0: '7' is not one",
        ),
        (lambda scenes: scenes[1]["questions"][0].update(question="Why?"), "the word 'why' is not in CLEVRER's"),
        (lambda scenes: scenes.append(5), r"train.json, entry 3: a scene must be an object"),
        (
            lambda scenes: scenes[1]["questions"][0].pop("answer"),
            r"train.json, scene 1, question 0: answer is missing; train",
        ),
        (
            lambda scenes: [c.pop("answer") for c in scenes[2]["questions"][1]["choices"]],
            r"train.json, scene 2, question 1, choice 0: answer is missing \(and 1 more have none\)",
        ),
    ],
)
def test_an_error_in_the_questions_names_its_place(change, message, tmp_path):
    settings = broken(tmp_path, "train.json", change)
    with pytest.raises(DataError, match=message):
        assembled(settings, tmp_path / "d")
    assert not (tmp_path / "d" / "dataset.json").exists()


@pytest.mark.parametrize("size", [0, 10, 500])
def test_a_truncated_question_file_is_refused(size, tmp_path):
    settings = files(tmp_path)
    path = Path(settings.questions) / "validation.json"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"validation\.json is not valid JSON .*cut off"):
        assembled(settings, tmp_path / "d")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("questions/train.json", "has no train.json; run `ctt data setup`, or `ctt data fetch`"),
        ("questions/validation.json", "has no validation.json or val.json"),
        ("questions", "questions' folder .*questions is missing"),
        ("slots", r"import\.json is missing: no import"),
        ("slots/import.json", r"import\.json is missing"),
        ("slots/slots_validation.npy", r"slots_validation\.npy is missing; import the slots again"),
    ],
)
def test_a_missing_file_is_named_before_any_work(name, message, tmp_path):
    settings = files(tmp_path)
    path = tmp_path / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=message):
        Data(settings).check()


def test_slots_without_a_split_that_is_needed(tmp_path):
    with pytest.raises(DataError, match="has no slots of split validation; it has train, test"):
        find(files(tmp_path, {"train": 2, "test": 1}, questioned=COUNTS))


def with_gaps(tmp_path) -> DataSettings:
    """Slots without scenes 1 and 10002 (the last), questions about all."""
    tree = slots_tree({"train": 4, "val": 3})
    del tree["train"]["1_pixels.mp4"], tree["val"]["video_10002.mp4"]
    imported = import_slots(write_pickle(tmp_path / "s.pkl", tree), tmp_path / "slots", gaps=True)
    questions = write_questions(tmp_path / "questions", {"train": 4, "val": 3})
    return DataSettings(kind="clevrer", slots_file=str(imported.folder), questions=str(questions), missing="skip")


def test_missing_videos_are_named_and_their_questions_left_out_where_that_is_asked_for(tmp_path):
    settings = with_gaps(tmp_path)
    refusing = dataclasses.replace(settings, missing="refuse")
    with pytest.raises(DataError, match=r"slots lacks 1 train video \(scene 1\); data.missing=skip leaves their questions out"):
        find(refusing)
    (tmp_path / "d").mkdir()
    facts = assemble(resolved(settings), BuildContext(tmp_path / "d"))
    assert facts["questions_left_out"] == {"train": 2, "validation": 2}
    assert "train: 2 questions are left out: 1 train video (scene 1) have no slots" in facts["notes"]
    dataset = Dataset.open(tmp_path / "d")
    train, tree = dataset.split("train"), slots_tree({"train": 4, "val": 3})
    assert train.scene_index.tolist() == [0, 2, 3] and dataset.split("validation").scene_index.tolist() == [10000, 10001]
    for row, index in enumerate(train.scene_index):
        assert (train.slots[row] == tree["train"][f"{index}_pixels.mp4"]).all()
    assert set(zip(train.questions.video.tolist(), train.questions.scene.tolist(), strict=True)) == {(0, 0), (1, 2), (2, 3)}


def test_slots_of_other_sizes_become_a_data_set_of_these_sizes(tmp_path):
    tree = {split: {name: a[:, :5, :64] for name, a in videos.items()} for split, videos in slots_tree(COUNTS).items()}
    imported = import_slots(write_pickle(tmp_path / "s.pkl", tree), tmp_path / "slots")
    questions = write_questions(tmp_path / "questions", COUNTS)
    settings = DataSettings(kind="clevrer", slots_file=str(imported.folder), questions=str(questions))
    assert (settings.format.slots, settings.format.width) == (5, 64)
    artifact = build(Data(resolved(settings)), Store(tmp_path / "store"))
    dataset = Dataset.open(artifact.path)
    assert dataset.format == settings.format and dataset.split("train").slots.shape == (3, 128, 5, 64)


def test_skipping_is_in_no_key_and_gaps_are_in_the_content(tmp_path):
    whole = files(tmp_path)
    assert Data(resolved(whole)).key == Data(resolved(dataclasses.replace(whole, missing="skip"))).key
    (tmp_path / "b").mkdir()
    gaps = with_gaps(tmp_path / "b")
    manifest = Path(str(gaps.slots_file)) / "import.json"
    content = resolved(gaps).content
    found = json.loads(manifest.read_text())
    assert found["splits"]["train"]["missing"] == [1] and "missing" not in found["splits"]["validation"]
    found["splits"]["train"]["missing"] = [2]
    manifest.write_text(json.dumps(found))
    with pytest.raises(DataError, match="is damaged"):
        find(gaps)
    assert content is not None and not content.startswith("provisional")


def test_two_validation_files_that_differ(tmp_path):
    settings = files(tmp_path)
    folder = Path(settings.questions)
    shutil.copy(folder / "validation.json", folder / "val.json")
    assert find(settings).splits == ("train", "validation", "test")
    (folder / "val.json").write_text("[]")
    with pytest.raises(DataError, match="both exist and differ; remove one"):
        find(settings)


def test_files_that_change_after_planning_are_refused(tmp_path):
    settings = resolved(files(tmp_path))
    path = Path(str(settings.questions)) / "train.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(DataError, match="changed since this run was planned"):
        assembled(settings, tmp_path / "d")


def test_opening_takes_under_a_second(tmp_path):
    import time

    dataset = assembled(files(tmp_path), tmp_path / "d")
    began = time.perf_counter()
    assert isinstance(Dataset.open(dataset.folder).split("train").slots, np.memmap)
    assert time.perf_counter() - began < 0.5
