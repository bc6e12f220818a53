"""Finding the objects that counterfactual questions remove, by their programs, and the slots that hold these.

A question that cannot be read, because its program does not remove one object of the video or because no slot holds that one
in the first frame, has no pair of a video and an object to be imagined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ctt.core.build_context import BuildContext
from ctt.core.errors import DataError
from ctt.data.data_settings import DataSettings
from ctt.data.dataset import Dataset, Split
from ctt.data.positions.linear_reader import LinearPositionReader
from ctt.data.positions.objects import SlotObjects
from ctt.data.positions.position_answers import COUNTERFACTUAL, MultipleChoiceQuestion, read_questions, removed_object
from ctt.data.positions.reference_levels import SPLIT, tracks_with_slots
from ctt.data.positions.removals import SPLITS, Removals
from ctt.data.positions.unread import check_files, check_readable, unread_questions

OTHERWISE = "set aloe.rollout_frames=predictive"
REMEDY = f"correct the programs or the annotations, or {OTHERWISE}"
NO_SLOT = "no slot holds the object that its program removes in the first frame"


def removals_of(questions: Sequence[MultipleChoiceQuestion], objects: SlotObjects) -> tuple[Removals, list[dict[str, Any]]]:
    """What these questions remove; and those that cannot be read, as `unread_questions` lists them."""
    not_read = unread_questions(questions, objects.things)
    asked: list[tuple[int, int]] = []
    removed: list[tuple[int, int]] = []
    for question in questions:
        place = (question.scene, question.question_id)
        if place in not_read:
            continue
        k = removed_object(question, objects.things(question.video))
        if objects.first[question.video, k] < 0:
            about = {"scene": question.scene, "question_id": question.question_id}
            not_read[place] = {**about, "category": question.category, "reason": NO_SLOT}
            continue
        asked.append(place)
        removed.append((question.video, k))
    pairs, row = np.unique(np.array(removed, np.int64).reshape(-1, 2), axis=0, return_inverse=True)
    return Removals(pairs, np.array(asked, np.int64).reshape(-1, 2), row.reshape(-1), objects), list(not_read.values())


def make(
    reader: LinearPositionReader,
    stride: int,
    validation: SlotObjects,
    dataset: Dataset,
    annotations: str | None,
    context: BuildContext,
) -> dict[str, Any]:
    """Writes removed_SPLIT.npz of the training and the validation split; returns facts: numbers of questions and of pairs, and
    the questions that cannot be read, with a warning if there are any.

    validation: the objects of that split, as the reader's fit has them. Raises DataError if positions or programs are missing,
    or if of a split no question can be read.
    """
    facts: dict[str, Any] = {"questions": {}, "pairs": {}}
    unread: list[dict[str, Any]] = []
    for name in SPLITS:
        split = dataset.split(name)
        if name == SPLIT:
            objects = validation
        else:
            objects = SlotObjects.of(tracks_with_slots(split, reader.read_all(split.slots), stride, annotations, context))
        found, not_read = removals_of(_questions(split, objects), objects)
        if not_read and not len(found.row):
            raise DataError(f"{split.questions_file}: none of its {len(not_read)} counterfactual questions: {NO_SLOT}; {REMEDY}")
        found.save(context.folder, name)
        facts["questions"][name], facts["pairs"][name] = len(found.row) + len(not_read), len(found.pairs)
        unread += [{"split": name, **one} for one in not_read]
    if unread:
        total = sum(facts["questions"].values())
        facts["unread"] = unread
        facts["warning"] = (
            f"{len(unread)} of {total} counterfactual questions do not remove one object that a slot holds: ALOE is given "
            f"their observed videos (scene {unread[0]['scene']}, question {unread[0]['question_id']}: {unread[0]['reason']})"
        )
    if left_out := [name for name in dataset.splits if name not in SPLITS]:
        facts["left_out"] = f"{', '.join(left_out)}: neither objects nor programs are known, so ALOE does not answer its questions"
    return facts


def _questions(split: Split, objects: SlotObjects) -> list[MultipleChoiceQuestion]:
    """The counterfactual questions of a split. Raises DataError if programs are missing or none can be read."""
    try:
        questions = read_questions(split.questions_file, split.scene_index, (COUNTERFACTUAL,))
    except DataError as error:
        raise DataError(f"{error}; {REMEDY}") from None
    check_readable(questions, objects.things, str(split.questions_file), REMEDY)
    return questions


def check_removals(data: DataSettings) -> None:
    """Raises DataError if the annotations that `data` names lack a video of the training or validation split, or if programs are
    missing or remove no object of their videos."""
    check_files(
        data, dict.fromkeys(SPLITS), dict.fromkeys(SPLITS, (COUNTERFACTUAL,)), "aloe.rollout_frames=counterfactual", OTHERWISE
    )
