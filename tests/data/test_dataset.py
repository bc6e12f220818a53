"""Opening complete and broken data sets."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from ctt.core.errors import DataError
from ctt.data.data_format import CLEVRER
from ctt.data.dataset import Dataset, write_manifest


def a_dataset(folder, visible=False):
    folder.mkdir()
    for split, videos in (("train", 3), ("validation", 2)):
        np.save(folder / f"slots_{split}.npy", np.zeros((videos, 128, 7, 128), dtype=np.float32))
        (folder / f"questions_{split}.json").write_text("[]")
        if visible:
            np.save(folder / f"visible_{split}.npy", np.ones((videos, 178, 7), dtype=bool))
    write_manifest(folder, "clevrer", CLEVRER, {"train": 3, "validation": 2}, {"train": 0, "validation": 10_000, "test": 15_000})
    return folder


def test_a_folder_without_truth_opens(tmp_path):
    dataset = Dataset.open(a_dataset(tmp_path / "d"))
    assert (dataset.name, dataset.splits, dataset.has_truth) == ("clevrer", ("train", "validation"), False)
    split = dataset.split("validation")
    assert split.slots.shape == (2, 128, 7, 128) and isinstance(split.slots, np.memmap)
    assert split.future is None and split.visible is None
    assert split.scene_index.tolist() == [10_000, 10_001] and split.scene_index.dtype == np.int64
    with pytest.raises(DataError, match="only synthetic"):
        _ = split.truth
    with pytest.raises(DataError, match="no split 'test'; it has train, validation"):
        dataset.split("test")


def manifest(**change):
    def break_it(folder):
        path = folder / "dataset.json"
        content = json.loads(path.read_text())
        content.update(change)
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return break_it


def cut(name, size):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def put(name, array):
    return lambda folder: np.save(folder / name, array, allow_pickle=True)


BROKEN = {
    "no manifest": ("dataset.json", lambda folder: (folder / "dataset.json").unlink()),
    "manifest cut off": ("dataset.json", cut("dataset.json", 20)),
    "manifest is a list": ("dataset.json", lambda folder: (folder / "dataset.json").write_text("[1]")),
    "manifest is not text": ("dataset.json", lambda folder: (folder / "dataset.json").write_bytes(b"\xff\x00{")),
    "no name": ("dataset.json", manifest(name=None)),
    "other frames": ("slots_train.npy must contain float32 (3, 100, 7, 128)", manifest(frames=100)),
    "other slots": ("slots_train.npy must contain float32 (3, 128, 11, 128)", manifest(slots=11)),
    "no width": ("dataset.json: width is missing", manifest(width=None)),
    "videos a list": ("videos must map", manifest(videos=[3, 2])),
    "videos negative": ("videos has the invalid entry 'train': -3", manifest(videos={"train": -3})),
    "videos true": ("videos has the invalid entry 'train': True", manifest(videos={"train": True})),
    "unknown split": ("videos has the invalid entry 'dev': 3", manifest(videos={"dev": 3})),
    "a split outside": ("videos has the invalid entry '../train'", manifest(videos={"../train": 3})),
    "splits differ": ("the same splits", manifest(first_scene={"train": 0})),
    "more videos than slots": ("slots_train.npy must contain", manifest(videos={"train": 4, "validation": 2})),
    "no slots": ("slots_train.npy is missing", lambda folder: (folder / "slots_train.npy").unlink()),
    "slots cut off": ("slots_validation.npy is not a complete npy file", cut("slots_validation.npy", 100_000)),
    "slots' header cut off": ("slots_validation.npy is not a complete npy file", cut("slots_validation.npy", 40)),
    "slots empty": ("slots_train.npy is not a complete npy file", cut("slots_train.npy", 0)),
    "slots a pickle": ("slots_train.npy is not a complete npy file", put("slots_train.npy", np.array([{}]))),
    "slots double": ("slots_train.npy must contain float32", put("slots_train.npy", np.zeros((3, 128, 7, 128)))),
    "slots of another shape": ("slots_train.npy must", put("slots_train.npy", np.zeros((3, 7, 128), np.float32))),
    "no questions": ("questions_train.json is missing", lambda folder: (folder / "questions_train.json").unlink()),
    "visible of another size": ("visible_train.npy must", put("visible_train.npy", np.ones((2, 178, 7), dtype=bool))),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_refused_by_name(case, tmp_path):
    message, break_it = BROKEN[case]
    folder = a_dataset(tmp_path / "d", visible=True)
    Dataset.open(folder)
    break_it(folder)
    with pytest.raises(DataError, match=re.escape(message)):
        Dataset.open(folder)


def test_incomplete_truth_is_refused_by_name(tmp_path):
    folder = a_dataset(tmp_path / "d")
    np.save(folder / "truth_train.objects.npy", np.zeros(3, dtype=np.int8))
    with pytest.raises(DataError, match=r"truth_train\.color\.npy is missing"):
        _ = Dataset.open(folder).split("train").truth
