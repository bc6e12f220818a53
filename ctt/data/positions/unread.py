"""Questions that cannot be read from positions: which they are and why, and the data sets of which that is too much.

One such question counts as wrong and is listed. Where it is all of a category, objects and programs do not belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ctt.core.errors import DataError
from ctt.data.clevrer.annotations import Annotations
from ctt.data.clevrer.source_files import check_questions, find
from ctt.data.data_settings import DataSettings
from ctt.data.positions.position_answers import (
    COUNTERFACTUAL,
    PREDICTIVE,
    MultipleChoiceQuestion,
    programmed_questions,
    unread,
)
from ctt.data.positions.reader_settings import PositionReaderSettings
from ctt.data.scene import Thing

CATEGORIES = (PREDICTIVE, COUNTERFACTUAL)
REMEDY = "set reader.enabled=false"
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


def check_readable(
    questions: Sequence[MultipleChoiceQuestion],
    things: Callable[[int], Sequence[Thing]],
    where: str,
    remedy: str = f"correct the programs or the annotations, or {REMEDY}",
) -> None:
    """Raises DataError, naming `where`, the first reason and the remedy, if of a category no question can be read. Of each
    category it looks at no more than the questions up to the first that can."""
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
                    f"({reasons[0]}); {remedy}"
                )


def check_annotated(reader: PositionReaderSettings, data: DataSettings) -> None:
    """Raises DataError if the annotations that `data` names lack a video that the position reader needs, or if of a category of
    the validation questions none can be read with them."""
    check_files(data, {"train": reader.videos, "validation": None}, {"validation": CATEGORIES}, "the position reader", REMEDY)


def check_files(
    data: DataSettings,
    videos: Mapping[str, int | None],
    asked: Mapping[str, Sequence[str]],
    reads: str,
    remedy: str,
) -> None:
    """Raises DataError if the annotations that `data` names lack one of the first `videos` (None: all) of a split, or if of the
    categories `asked` of a split programs are missing, or none can be read.

    reads, remedy: what needs them, and what to do without, for the message."""
    annotations = Annotations(Path(str(data.annotation_files)).expanduser())
    sources = find(data)
    both = f"correct the programs or the annotations, or {remedy}"
    read = {split: _questions(data, split, categories, f"; {remedy}") for split, categories in asked.items()}
    for split, most in videos.items():
        needed = (read[split][1] if split in read else sources.slots.parts[split].scenes)[:most]
        if missing := annotations.missing(needed):
            some = ", ".join(map(str, missing[:MOST])) + (" …" if len(missing) > MOST else "")
            raise DataError(
                f"{annotations.folder} has no annotation of {len(missing)} of {len(needed)} {split} videos that {reads} "
                f"needs (scenes {some}); run `ctt data fetch annotations`, or {remedy}"
            )
    for split, (questions, scenes) in read.items():
        where = f"{sources.questions[split]} and {annotations.folder}"
        check_readable(questions, partial(_things, annotations, scenes), where, both)


def _things(annotations: Annotations, scenes: Sequence[int], video: int) -> list[Thing]:
    return annotations.things(scenes[video])


def unread_of_annotated(data: DataSettings) -> list[dict[str, Any]]:
    """The validation questions that cannot be read with the annotations, of videos that have one. Raises DataError if there is
    nothing to read them by."""
    annotations = Annotations(Path(str(data.annotation_files)).expanduser())
    questions, scenes = _questions(data, "validation", CATEGORIES)
    known = [question for question in questions if scenes[question.video] in annotations]
    return list(unread_questions(known, lambda video: annotations.things(scenes[video])).values())


def _questions(
    data: DataSettings, split: str, categories: Sequence[str], remedy: str = ""
) -> tuple[list[MultipleChoiceQuestion], list[int]]:
    """The questions of these categories in a split's file, and the scenes of its videos. remedy: the end of the message if
    programs are missing."""
    sources = find(data)
    path, part = sources.questions[split], sources.slots.parts[split]
    fit = check_questions(path, split, part, data.missing == "skip")
    scenes = [scene + fit.first - part.first for scene in part.scenes]
    try:
        return programmed_questions(fit.scenes, np.array(scenes), categories, str(path)), scenes
    except DataError as error:
        raise DataError(f"{error}{remedy}") from None
