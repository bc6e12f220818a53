"""Predictive and counterfactual questions, answered by running their programs on collisions found in positions.

Two objects collide if their centres come within the reach of their shapes. Exactly one option of a predictive question is
correct: the reach grows until one option has happened, so the closest pair decides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
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
        self.removed: int | None = None

    def without(self, k: int) -> tuple[Event, ...]:
        """The collisions found without object `k`; `removed` records `k`."""
        self.removed = k
        return self.happens


def read_questions(path: Path, scene_index: np.ndarray, categories: Sequence[str]) -> list[MultipleChoiceQuestion]:
    """The questions of `categories` in an official file. Raises DataError if one lacks its program or answer."""
    row = {int(scene): v for v, scene in enumerate(scene_index)}
    out = []
    for scene in json.loads(path.read_bytes()):
        for question in scene["questions"]:
            if question["question_type"] not in categories:
                continue
            try:
                choices = [(c["choice_id"], c["program"], c["answer"] == "correct") for c in question["choices"]]
                program = question["program"]
            except KeyError as error:
                where = f"{path}, scene {scene['scene_index']}, question {question['question_id']}"
                raise DataError(f"{where}: {error.args[0]} is missing; the position reader needs it") from None
            for _, choice, _ in choices:
                type_check([*choice, *program])
            place = (row[scene["scene_index"]], scene["scene_index"], question["question_id"])
            out.append(MultipleChoiceQuestion(*place, question["question_type"], form(question), program, choices))
    return out


def removed_object(question: MultipleChoiceQuestion, things: Sequence[Thing]) -> int | None:
    """The object that a counterfactual question removes; None if its program removes none."""
    world = FoundCollisions(things)
    _truths(question, world)
    return world.removed


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


def answers(questions: Sequence[MultipleChoiceQuestion], by_category: Mapping[str, Answer]) -> pd.DataFrame:
    """One row per option, with the columns that tables read; questions of other categories are left out."""
    rows: list[tuple[Any, ...]] = []
    for question in questions:
        if question.category not in by_category:
            continue
        predicted = by_category[question.category](question)
        for (choice, _, correct), answer in zip(question.choices, predicted, strict=True):
            place = (question.scene, question.video, question.question_id, choice, question.category, question.form)
            rows.append((*place, int(correct), int(answer), correct == answer))
    names = ["scene", "video", "question_id", "choice_id", "category", "form", "truth", "prediction", "correct"]
    frame = pd.DataFrame(rows, columns=names)
    kinds = {"scene": "int64", "video": "int32", "question_id": "int32", "choice_id": "int32"}
    return frame.astype(kinds | {"truth": "int32", "prediction": "int32", "correct": "bool"})
