"""Questions that cannot be read from positions: wrong whatever their options are, listed, and refused where they are all."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ctt.core.build_context import BuildContext
from ctt.core.errors import DataError
from ctt.data.accuracy import metrics_of
from ctt.data.data_settings import DataSettings
from ctt.data.dataset import Dataset
from ctt.data.positions import reference_levels
from ctt.data.positions.position_answers import (
    COUNTERFACTUAL,
    NOT_READ,
    PREDICTIVE,
    MultipleChoiceQuestion,
    answers,
    programmed_questions,
    unread,
)
from ctt.data.positions.reader_settings import PositionReaderSettings
from ctt.data.positions.unread import unread_questions
from ctt.data.synthetic.writing import generate
from tests.data.positions.test_position_answers import OBJECT, THINGS, collision, question

GREEN = ["all_events", *OBJECT["green"], "get_counterfact", "belong_to"]
UNKNOWN = ["all_events", "objects", "red", "filter_color", "blue", "filter_color", "unique", "get_counterfact", "belong_to"]
TWO = ["all_events", *OBJECT["green"], "get_counterfact", *OBJECT["red"], "get_counterfact", "belong_to"]
SETTINGS = PositionReaderSettings(videos=16)
LEVELS_OF_ALL = ("true_future", "unchanged", "ancestry")


@pytest.mark.parametrize(
    "program, reason",
    [
        (GREEN, ""),
        ([*GREEN, "negate"], ""),
        (UNKNOWN, "there are 0, not one"),
        (["all_events", "objects", "metal", "filter_material", "unique", "get_counterfact", "belong_to"], "there are 2, not one"),
        (["all_events", "belong_to"], "its program removes no objects, not one"),
        (TWO, "its program removes 2 objects, not one"),
        (["all_events", "objects", "null", "filter_moving", "unique", "get_counterfact", "belong_to"], "which objects move"),
    ],
)
def test_a_counterfactual_question_has_to_name_one_object(program: list[str], reason: str) -> None:
    found = unread(question(COUNTERFACTUAL, program, ("red", "blue"), ("red", "green")), THINGS)
    assert reason in found and bool(found) == bool(reason)


def test_an_option_has_to_name_objects_of_the_video() -> None:
    asked = question(PREDICTIVE, ["unseen_events", "belong_to"], ("red", "blue"))
    assert unread(asked, THINGS) == ""
    gone = THINGS[:1]
    assert "there are 0, not one" in unread(asked, gone)
    first = [(0, ["unseen_events", "first", "filter_order"], True)]
    assert unread(dataclasses.replace(asked, choices=first), THINGS) == "", "what has not happened yet is not unreadable"


def test_one_of_them_is_wrong_in_all_its_options_even_if_all_are_false() -> None:
    sound = MultipleChoiceQuestion(0, 7, 0, COUNTERFACTUAL, "f", GREEN, [(0, collision("red", "blue"), False)])
    odd = dataclasses.replace(
        sound, question_id=1, program=UNKNOWN, choices=[(i, collision("red", "blue"), False) for i in range(2)]
    )
    not_read = unread_questions([sound, odd], lambda video: THINGS)
    assert not_read == {
        (7, 1): {
            "scene": 7,
            "question_id": 1,
            "category": "counterfactual",
            "reason": "unique at position 18: there are 0, not one",
        }
    }
    table = answers([sound, odd], {COUNTERFACTUAL: lambda asked: [False] * len(asked.choices)}, not_read)
    assert table["prediction"].tolist() == [0, NOT_READ, NOT_READ] and table["correct"].tolist() == [True, False, False]
    metrics = metrics_of(table)
    assert metrics["per_question"]["counterfactual"] == 50 and metrics["per_option"]["counterfactual"] == pytest.approx(100 / 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("set")
    generate(DataSettings(train=16, validation=12, seed=3, workers=1), BuildContext(made))
    return made


def edited(folder: Path, to: Path, program: list[str], most: int, false: bool = False) -> list[tuple[int, int]]:
    """A copy of the data set in which up to `most` counterfactual validation questions have another program; with `false`, no
    right option either. Returns their (scene, question_id)."""
    shutil.copytree(folder, to)
    path = to / "questions_validation.json"
    scenes = json.loads(path.read_text())
    changed = []
    for scene in scenes:
        for one in scene["questions"]:
            if one["question_type"] == COUNTERFACTUAL and len(changed) < most:
                one["program"] = program
                changed.append((scene["scene_index"], one["question_id"]))
                for choice in one["choices"] if false else ():
                    choice["answer"] = "wrong"
    path.write_text(json.dumps(scenes))
    return changed


def made(data: Path, to: Path) -> Path:
    to.mkdir()
    reference_levels.make(SETTINGS, Dataset.open(data), None, 32, BuildContext(to))
    return to


def test_one_in_a_data_set_is_listed_and_wrong_at_every_level(folder: Path, tmp_path: Path) -> None:
    ((scene, identity),) = edited(folder, tmp_path / "odd", UNKNOWN, 1, false=True)
    before, after = made(folder, tmp_path / "before"), made(tmp_path / "odd", tmp_path / "after")
    assert "unread" not in json.loads((before / "metrics.json").read_text())
    (listed,) = json.loads((after / "metrics.json").read_text())["unread"]
    assert (listed["scene"], listed["question_id"], listed["category"]) == (scene, identity, COUNTERFACTUAL)
    for level in LEVELS_OF_ALL:
        one, two = (pd.read_parquet(place / f"{level}.parquet") for place in (before, after))
        assert len(one) == len(two), "it is not left out"
        mine = (two["scene"] == scene) & (two["question_id"] == identity)
        assert mine.sum() > 1 and not two["truth"][mine].any() and not two["correct"][mine].any()
        pd.testing.assert_frame_equal(one[~mine], two[~mine])


@pytest.mark.parametrize("program", [UNKNOWN, TWO, ["all_events", "belong_to"]])
def test_a_data_set_of_nothing_else_is_refused(folder: Path, tmp_path: Path, program: list[str]) -> None:
    changed = edited(folder, tmp_path / "odd", program, 10**6)
    message = (
        rf"questions_validation\.json: none of the {len(changed)} counterfactual questions .*scene \d+, .*reader\.enabled=false"
    )
    with pytest.raises(DataError, match=message):
        made(tmp_path / "odd", tmp_path / "after")


def test_malformed_programs_are_named() -> None:
    asked = {"question_id": 3, "question_type": PREDICTIVE, "question": "What will happen next?", "program": None}
    asked["choices"] = [{"choice_id": 0, "choice": "", "program": collision("red", "blue"), "answer": "correct"}]
    for program, message in ((None, "must be a list of tokens"), (["unseen_events", "strange"], "unknown program token 'strange'")):
        scenes = [{"scene_index": 7, "questions": [{**asked, "program": program}]}]
        with pytest.raises(DataError, match=f"q.json, scene 7, question 3: .*{message}"):
            programmed_questions(scenes, np.array([7]), (PREDICTIVE,), "q.json")
