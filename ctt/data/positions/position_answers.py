"""Predictive and counterfactual questions, answered by running their programs on collisions found in positions.

Two objects collide if their centres come within the reach of their shapes. Exactly one option of a predictive question is
correct: the reach grows until one option has happened, so the closest pair decides. A question whose programs have no answer
for the objects of its video (`unread`) is wrong, and so are all its options.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctt.core.errors import DataError
from ctt.data.questions.language import form
from ctt.data.questions.programs import Unanswerable, execute, type_check
from ctt.data.scene import GIVEN, Thing
from ctt.data.synthetic.events import Event, World

PREDICTIVE, COUNTERFACTUAL = "predictive", "counterfactual"


@dataclass(frozen=True)
class MultipleChoiceQuestion:
    """A predictive or counterfactual question."""

    video: int
    scene: int
    question_id: int
    category: str
    form: str
    program: list[str]
    choices: list[tuple[int, list[str], bool]]  # (choice_id, program, whether it is correct)


class FoundCollisions(World):
    """A world of known objects and the collisions found so far."""

    def __init__(self, things: Sequence[Thing]) -> None:
        self.things, self.objects = things, tuple(range(len(things)))
        self.events: tuple[Event, ...] = ()
        self.unseen: tuple[Event, ...] = ()
        self.happens: tuple[Event, ...] = ()
        self.removed: set[int] = set()

    def without(self, k: int) -> tuple[Event, ...]:
        """The collisions found without object `k`; `removed` gets `k`."""
        self.removed.add(k)
        return self.happens

    def in_state(self, moving: bool, frame: int | None) -> tuple[int, ...]:
        """Which objects move is not among what was found."""
        raise Unanswerable("collisions do not show which objects move")


def read_questions(path: Path, scene_index: np.ndarray, categories: Sequence[str]) -> list[MultipleChoiceQuestion]:
    """The questions of `categories` in an official file. Raises DataError if one lacks its program or answer."""
    return programmed_questions(json.loads(path.read_bytes()), scene_index, categories, str(path))


def programmed_questions(
    scenes: Sequence[Any], scene_index: np.ndarray, categories: Sequence[str], path: str
) -> list[MultipleChoiceQuestion]:
    """The questions of `categories` among the entries of the file `path`. Raises DataError if one lacks its program or answer."""
    row = {int(scene): v for v, scene in enumerate(scene_index)}
    out = []
    for scene in scenes:
        for question in scene["questions"]:
            if question["question_type"] not in categories:
                continue
            where = f"{path}, scene {scene['scene_index']}, question {question['question_id']}"
            try:
                choices = [(c["choice_id"], c["program"], c["answer"] == "correct") for c in question["choices"]]
                program = question["program"]
            except KeyError as error:
                raise DataError(f"{where}: {error.args[0]} is missing; the position reader needs it") from None
            for part in (program, *(choice for _, choice, _ in choices)):
                if not isinstance(part, list):
                    raise DataError(f"{where}: program must be a list of tokens; the position reader needs it")
            for _, choice, _ in choices:
                try:
                    type_check([*choice, *program])
                except DataError as error:
                    raise DataError(f"{where}: {error}") from None
            place = (row[scene["scene_index"]], scene["scene_index"], question["question_id"])
            out.append(MultipleChoiceQuestion(*place, question["question_type"], form(question), program, choices))
    return out


def removed_object(question: MultipleChoiceQuestion, things: Sequence[Thing]) -> int:
    """The object that a counterfactual question removes. Raises Unanswerable with the reason if that is not one object, or if
    an option has no answer for these objects."""
    world = _with_all_collisions(question, things)
    if len(world.removed) != 1:
        raise Unanswerable(f"its program removes {len(world.removed) or 'no'} objects, not one")
    return next(iter(world.removed))


def unread(question: MultipleChoiceQuestion, things: Sequence[Thing]) -> str:
    """Why a question cannot be read in a video with these objects; "" if it can."""
    try:
        if question.category == COUNTERFACTUAL:
            removed_object(question, things)
        else:
            _with_all_collisions(question, things)
    except Unanswerable as reason:
        return str(reason)
    return ""


def _with_all_collisions(question: MultipleChoiceQuestion, things: Sequence[Thing]) -> FoundCollisions:
    """The world in which all pairs collide, after the programs of all options ran on it. Raises Unanswerable where one has no
    answer, which it then has in no world of these objects."""
    world = FoundCollisions(things)
    world.happens = world.hypothetical
    world.unseen = tuple(event._replace(frame=GIVEN) for event in world.hypothetical)
    for _, choice, _ in question.choices:
        execute([*choice, *question.program], world)
    return world


def answer_predictive(question: MultipleChoiceQuestion, things: Sequence[Thing], gap: np.ndarray) -> list[bool]:
    """Whether each option of a predictive question happens; gap (N, N): closest approach of pairs minus their reach."""
    world = FoundCollisions(things)
    pairs = [pair for pair in combinations(world.objects, 2) if np.isfinite(gap[pair])]
    for pair in sorted(pairs, key=lambda pair: float(gap[pair])):
        world.unseen = (*world.unseen, Event(GIVEN, "collision", pair))
        if any(truths := _truths(question, world)):
            return truths
    return [False] * len(question.choices)


def answer_counterfactual(question: MultipleChoiceQuestion, things: Sequence[Thing], gap: np.ndarray) -> list[bool]:
    """Whether each option of a counterfactual question is true if exactly the pairs with a gap below 0 collide."""
    world = FoundCollisions(things)
    pairs = combinations(world.objects, 2)
    world.happens = tuple(Event(-1, "collision", pair) for pair in pairs if gap[pair] < 0)
    return _truths(question, world)


def _truths(question: MultipleChoiceQuestion, world: World) -> list[bool]:
    out = []
    for _, choice, _ in question.choices:
        try:
            out.append(execute([*choice, *question.program], world) == "yes")
        except Unanswerable:
            out.append(False)
    return out


Answer = Callable[[MultipleChoiceQuestion], list[bool]]


NOT_READ = -1
"""The prediction of the options of a question that cannot be read."""


def answers(
    questions: Sequence[MultipleChoiceQuestion], by_category: Mapping[str, Answer], not_read: Collection[tuple[int, int]] = ()
) -> pd.DataFrame:
    """One row per option, with the columns that tables read; questions of other categories are left out.

    not_read: (scene, question_id) of questions that cannot be read: every option of theirs is wrong."""
    rows: list[tuple[Any, ...]] = []
    for question in questions:
        if question.category not in by_category:
            continue
        legible = (question.scene, question.question_id) not in not_read
        predicted = by_category[question.category](question) if legible else [NOT_READ] * len(question.choices)
        for (choice, _, correct), answer in zip(question.choices, predicted, strict=True):
            place = (question.scene, question.video, question.question_id, choice, question.category, question.form)
            rows.append((*place, int(correct), int(answer), int(correct) == int(answer)))
    names = ["scene", "video", "question_id", "choice_id", "category", "form", "truth", "prediction", "correct"]
    frame = pd.DataFrame(rows, columns=names)
    kinds = {"scene": "int64", "video": "int32", "question_id": "int32", "choice_id": "int32"}
    return frame.astype(kinds | {"truth": "int32", "prediction": "int32", "correct": "bool"})
