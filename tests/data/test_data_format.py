"""What dataset.json records: read back as written, old files included, and refused by the name of what is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from ctt.core.errors import DataError
from ctt.data.categories import CLEVRER_CATEGORIES, Categories, Category
from ctt.data.data_format import CLEVRER, DataFormat, format_of
from ctt.data.dataset import Dataset, write_manifest
from ctt.data.questions.vocab import Vocabulary

OTHER = DataFormat(
    frames=96,
    slots=11,
    width=64,
    categories=Categories((Category("where", choices=False), Category("next", future=True))),
    vocabulary=Vocabulary(words=("where", "is", "it", "next"), answers=("left", "right"), question_length=4, choice_length=2),
    positions="radii",
)
SILENT = DataFormat(40, 5, 32)


@pytest.mark.parametrize("data_format", [CLEVRER, OTHER, SILENT])
def test_a_format_is_read_as_it_was_written(data_format: DataFormat) -> None:
    read = format_of(json.loads(json.dumps(data_format.as_json())))
    assert read == data_format and hash(read) == hash(data_format) and not read.differences(data_format)


def test_a_file_of_before_has_clevrers_questions() -> None:
    old = dict(name="synthetic", frames=128, slots=7, width=128, videos={"train": 3}, first_scene={"train": 0})
    assert format_of(old) == CLEVRER and CLEVRER.like_clevrer and not OTHER.like_clevrer


def test_the_metrics_follow_from_the_categories() -> None:
    pooled = ("multiple_choice", "average")
    assert CLEVRER_CATEGORIES.metrics == ("descriptive", "explanatory", "predictive", "counterfactual", *pooled)
    assert CLEVRER_CATEGORIES.option_metrics == ("explanatory", "predictive", "counterfactual", "multiple_choice")
    assert CLEVRER_CATEGORIES.members("multiple_choice") == ("explanatory", "predictive", "counterfactual")
    assert OTHER.categories.metrics == ("where", "next", "average") and OTHER.categories.option_metrics == ("next",)
    assert SILENT.categories.metrics == () == SILENT.categories.option_metrics


WRONG = {
    "four slots": (dict(slots=4), "slots must be from 5 to 24, got 4; add empty slots"),
    "25 slots": (dict(slots=25), "slots must be from 5 to 24, got 25"),
    "too narrow": (dict(width=31), "width must be from 32 to 512, got 31"),
    "too wide": (dict(width=513), "width must be from 32 to 512, got 513"),
    "slots a text": (dict(slots="11"), "slots must be from 5 to 24, got '11'"),
    "slots true": (dict(slots=True), "slots must be from 5 to 24, got True"),
    "one frame": (dict(frames=1), "frames must be from 2"),
    "categories a table": (dict(categories={"where": {}}), r"categories must be a list, .*write \[\] for data without questions"),
    "a category without name": (dict(categories=[{"choices": True}]), "categories: .* is not"),
    "an unknown key": (dict(categories=[{"name": "where", "kind": "open"}]), "categories: .* is not"),
    "a category twice": (dict(categories=[{"name": "where"}, {"name": "where"}]), "categories: where is there twice"),
    "a pool's name": (dict(categories=[{"name": "average"}]), "'average' cannot be the name of a category"),
    "an error's name": (dict(categories=[{"name": "rollout"}]), "'rollout' cannot be the name of a category"),
    "an odd name": (dict(categories=[{"name": "a/b"}]), "'a/b' cannot be the name of a category"),
    "answers a text": (dict(answers="left right"), "answers must be a list of texts"),
    "an answer twice": (dict(answers=["left", "left"]), "answers: 'left' is there twice"),
    "an answer a number": (dict(answers=[1, 2]), "answers must be a list of texts; it has 1"),
    "two words in one": (dict(words=["where is"]), "words: 'where is' is no single word"),
    "no room for words": (dict(question_length=0), "question_length must be a number from 1"),
    "positions a number": (dict(positions=3), "positions must be the unit"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field_is_named(case: str) -> None:
    changes, words = WRONG[case]
    with pytest.raises(DataError, match=words):
        format_of(OTHER.as_json() | changes)


def a_folder(folder: Path, data_format: DataFormat = OTHER) -> Path:
    folder.mkdir()
    for split, first in (("train", 0), ("validation", 10)):
        shape = (2, data_format.frames, data_format.slots, data_format.width)
        np.save(folder / f"slots_{split}.npy", np.zeros(shape, np.float32))
        np.save(folder / f"future_{split}.npy", np.zeros((2, 9, *shape[2:]), np.float32))
        np.save(folder / f"visible_{split}.npy", np.ones((2, data_format.frames + 9, shape[2]), bool))
        write_questions(folder, split, first)
    videos, first_scene = {"train": 2, "validation": 2}, {"train": 0, "validation": 10}
    write_manifest(folder, "orbits", data_format, videos, first_scene)
    return folder


def write_questions(folder: Path, split: str, first: int, **changes: object) -> None:
    where = {"question_id": 0, "question_type": "where", "question": "Where is it?", "answer": "left"} | changes
    after = {"question_id": 1, "question_type": "next", "question": "where next", "choices": [
        {"choice_id": 0, "choice": "it", "answer": "wrong"}]}  # fmt: skip
    scenes = [{"scene_index": first + v, "questions": [{k: v for k, v in where.items() if v is not None}, after]} for v in (0, 1)]
    (folder / f"questions_{split}.json").write_text(json.dumps(scenes))


def test_a_folder_in_its_format_is_accepted(tmp_path: Path) -> None:
    dataset = Dataset.open(a_folder(tmp_path / "d"))
    dataset.check(OTHER)
    table = dataset.split("train").questions
    assert table.question_tokens.shape == (4, 4) and table.choice_tokens.shape == (4, 2)
    assert table.category_names.tolist() == ["where", "next"] * 2 and table.has_choices.tolist() == [False, True] * 2
    assert table.forms == ["where:all", "next:all"] and table.answer.tolist() == [1, 0, 1, 0]
    assert dataset.split("train").future.shape[1] == 9


BAD_FOLDERS = {
    "other slots in the array": (
        lambda d: np.save(d / "slots_train.npy", np.zeros((2, 96, 9, 64), np.float32)),
        r"slots_train.npy must contain float32 \(2, 96, 11, 64\), got float32 \(2, 96, 9, 64\)",
    ),
    "other width in the future": (
        lambda d: np.save(d / "future_train.npy", np.zeros((2, 9, 11, 32), np.float32)),
        "future_train.npy must contain float32",
    ),
    "fewer frames known to be in view": (
        lambda d: np.save(d / "visible_train.npy", np.ones((2, 96, 11), bool)),
        "visible_train.npy must contain bool",
    ),
    "an unknown category": (
        lambda d: write_questions(d, "train", 0, question_type="why"),
        "questions_train.json, scene 0, question 0: question_type must be one of where, next, got 'why'",
    ),
    "an answer outside of the vocabulary": (
        lambda d: write_questions(d, "train", 0, answer="up"),
        r"questions_train.json, scene 0, question 0: 'up' is not one of the data set's 2 answers \(left, right\)",
    ),
    "an unknown word": (
        lambda d: write_questions(d, "validation", 10, question="Why?"),
        "questions_validation.json, scene 10, question 0: the word 'why' is not in the data set's vocabulary",
    ),
    "no answer": (
        lambda d: write_questions(d, "train", 0, answer=None),
        "questions_train.json, scene 0, question 0: answer is missing .*train needs answers",
    ),
    "no questions": (lambda d: (d / "questions_train.json").unlink(), "questions_train.json is missing"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_what_does_not_fit_the_format_is_refused_with_its_file(case: str, tmp_path: Path) -> None:
    break_it, words = BAD_FOLDERS[case]
    folder = a_folder(tmp_path / "d")
    break_it(folder)
    with pytest.raises(DataError, match=words):
        Dataset.open(folder).check(OTHER)


def test_another_format_than_the_declared_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset.json: positions is 'radii', but the source declares 'metres'"):
        Dataset.open(a_folder(tmp_path / "d")).check(DataFormat(96, 11, 64, OTHER.categories, OTHER.vocabulary, "metres"))


def test_a_data_set_without_questions_needs_no_question_files(tmp_path: Path) -> None:
    silent = DataFormat(96, 11, 64)
    folder = a_folder(tmp_path / "d", silent)
    for path in folder.glob("questions_*"):
        path.unlink()
    dataset = Dataset.open(folder)
    dataset.check(silent)
    assert len(dataset.split("train").questions) == 0
