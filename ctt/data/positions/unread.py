"""Questions that cannot be read from positions: which they are and why, and the data sets of which that is too much.

One such question counts as wrong and is listed. Where it is all of a category, objects and programs do not belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctt.core.errors import DataError
from ctt.data.clevrer.annotations import Annotations
from ctt.data.clevrer.source_files import check_questions, find
from ctt.data.data_settings import DataSettings
from ctt.data.positions.linear_reader import PositionReaderSettings
from ctt.data.positions.position_answers import (
    COUNTERFACTUAL,
    PREDICTIVE,
    MultipleChoiceQuestion,
    programmed_questions,
    unread,
)
from ctt.data.scene import Thing

CATEGORIES = (PREDICTIVE, COUNTERFACTUAL)
REMEDY = "correct the programs or the annotations, or set reader.enabled=false"
MOST = 5
"""Scenes and questions that a message names."""


def unread_questions(
    questions: Sequence[MultipleChoiceQuestion], things: Callable[[int], Sequence[Thing]]
) -> dict[tuple[int, int], dict[str, Any]]:
    """{(scene, question_id): {"scene", "question_id", "category", "reason"}} of those that cannot be read; things: of a video."""
    found = {}
    for question in questions:
        if reason := unread(question, things(question.video)):
            place = {"scene": question.scene, "question_id": question.question_id}
            found[question.scene, question.question_id] = {**place, "category": question.category, "reason": reason}
    return found


def check_readable(questions: Sequence[MultipleChoiceQuestion], things: Callable[[int], Sequence[Thing]], where: str) -> None:
    """Raises DataError, naming `where` and the first reason, if of a category no question can be read. Of each category it looks
    at no more than the questions up to the first that can."""
    for category in CATEGORIES:
        asked = [question for question in questions if question.category == category]
        reasons = []
        for question in asked:
            if not (reason := unread(question, things(question.video))):
                break
            reasons.append(f"scene {question.scene}, question {question.question_id}: {reason}")
        else:
            if asked:
                raise DataError(
                    f"{where}: none of the {len(asked)} {category} questions can be read for the objects of its video "
                    f"({reasons[0]}); {REMEDY}"
                )


def check_annotated(reader: PositionReaderSettings, data: DataSettings) -> None:
    """Raises DataError if the annotations that `data` names lack a video that the position reader needs, or if of a category of
    the validation questions none can be read with them."""
    annotations = Annotations(Path(str(data.annotation_files)).expanduser())
    sources = find(data)
    train = sources.slots.parts["train"].scenes[: reader.videos]
    questions, scenes = _validation(data)
    for split, needed in (("train", train), ("validation", scenes)):
        if missing := annotations.missing(needed):
            some = ", ".join(map(str, missing[:MOST])) + (" …" if len(missing) > MOST else "")
            raise DataError(
                f"{annotations.folder} has no annotation of {len(missing)} of {len(needed)} {split} videos that the position "
                f"reader needs (scenes {some}); run `ctt data fetch annotations`, or set reader.enabled=false"
            )
    where = f"{sources.questions['validation']} and {annotations.folder}"
    check_readable(questions, lambda video: annotations.things(scenes[video]), where)


def unread_of_annotated(data: DataSettings) -> list[dict[str, Any]]:
    """The validation questions that cannot be read with the annotations, of videos that have one. Raises DataError if there is
    nothing to read them by."""
    annotations = Annotations(Path(str(data.annotation_files)).expanduser())
    questions, scenes = _validation(data)
    known = [question for question in questions if scenes[question.video] in annotations]
    return list(unread_questions(known, lambda video: annotations.things(scenes[video])).values())


def _validation(data: DataSettings) -> tuple[list[MultipleChoiceQuestion], list[int]]:
    """The validation questions that positions answer, and the scenes of the videos."""
    sources = find(data)
    path, part = sources.questions["validation"], sources.slots.parts["validation"]
    fit = check_questions(path, "validation", part, data.missing == "skip")
    scenes = [scene + fit.first - part.first for scene in part.scenes]
    return programmed_questions(fit.scenes, np.array(scenes), CATEGORIES, str(path)), scenes
