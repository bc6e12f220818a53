"""Fitting the position reader, once per data set, and its reference levels: its answers without a world model.

true_future   positions read from the true future; counterfactual: the true runs without the object (synthetic data only)
linear        positions read from the given frames, extrapolated linearly
copy_last     the last of these positions, unchanged
unchanged     counterfactual questions answered by the collisions that happen with the object present
ancestry      by the collisions of the video that do not descend from the object: the true ones, where the truth is known
words         by a model of the question's words (ctt/data/baselines/words_only.py), without the video

The last two are left out with reader.reach=all, which earlier versions had alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from ctt.core.build_context import BuildContext
from ctt.core.errors import DataError
from ctt.data.accuracy import metrics_of
from ctt.data.baselines.words_only import words_only_predictions
from ctt.data.clevrer.annotations import Annotations
from ctt.data.dataset import Dataset, Split
from ctt.data.positions.descendants import ancestry_gaps, first_touches
from ctt.data.positions.linear_reader import LinearPositionReader, fit, follow
from ctt.data.positions.matching import match, matched
from ctt.data.positions.objects import ObjectTracks, SlotObjects, from_annotations, from_truth
from ctt.data.positions.position_answers import (
    COUNTERFACTUAL,
    PREDICTIVE,
    Answer,
    MultipleChoiceQuestion,
    answer_counterfactual,
    answer_predictive,
    answers,
    read_questions,
    removed_object,
)
from ctt.data.positions.reader_settings import PositionReaderSettings
from ctt.data.positions.unread import check_readable, unread_questions

SPLIT = "validation"
METRICS = "metrics.json"
LEVELS = ("true_future", "linear", "copy_last", "unchanged", "ancestry", "words")
LATER = ("ancestry", "words")
"""Those that stores of versions before 0.2 do not have."""
STEPS = 10
"""Frames over which the velocity of the linear extrapolation is measured."""


def make(settings: PositionReaderSettings, dataset: Dataset, annotations: str | None, frames: int, context: BuildContext) -> None:
    """Writes probe.npz, objects.npz of the validation split, LEVEL.parquet for each level, and metrics.json.

    frames: future frames to read, as many as are rolled out. metrics.json lists the questions that cannot be read as "unread".
    Raises DataError if positions or programs are missing, or if of a category no question can be read.
    """
    train, split = dataset.split("train"), dataset.split(SPLIT)
    fitted = tracks_of(train, settings.videos, annotations, context)
    slots = np.array(train.slots[: len(fitted)])
    if fitted.slot is None:
        fitted = match(slots, fitted, settings.stride)
    reader = fit(slots, fitted, settings.stride)
    seen = reader.read_all(split.slots)
    tracks = tracks_with_slots(split, seen, settings.stride, annotations, context)
    objects = SlotObjects.of(tracks)
    reader.save(context.folder)
    objects.save(context.folder)
    questions = read_questions(split.questions_file, split.scene_index, (PREDICTIVE, COUNTERFACTUAL))
    check_readable(questions, objects.things, str(split.questions_file))
    not_read = unread_questions(questions, objects.things)
    tables = {
        name: answers(questions, by_category, not_read)
        for name, by_category in levels(reader, split, objects, follow(seen, tracks.slots), frames).items()
    }
    if settings.reach != "all":
        tables["words"] = answers_of_words(train, split)
    kept = [name for name in LEVELS if name in tables and not (settings.reach == "all" and name in LATER)]
    found = {name: write(tables[name], context.folder / f"{name}.parquet") for name in kept}
    metrics = {"levels": found, "reach": reader.reach.tolist()} | ({"unread": list(not_read.values())} if not_read else {})
    (context.folder / METRICS).write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def tracks_with_slots(split: Split, seen: np.ndarray, stride: int, annotations: str | None, context: BuildContext) -> ObjectTracks:
    """All objects of a split with their slots, found by the slots' positions `seen` (V, 128, S, 2). Raises as `tracks_of`."""
    tracks = tracks_of(split, None, annotations, context)
    return matched(tracks, seen, stride) if tracks.slot is None else tracks


def tracks_of(split: Split, videos: int | None, annotations: str | None, context: BuildContext) -> ObjectTracks:
    """The objects of the first `videos` (None: all) videos of a split. Raises DataError if positions are unknown."""
    count = min(videos or split.videos, split.videos)
    if split.has_truth:
        return from_truth(split, count)
    if annotations is None:
        raise DataError("the position reader needs data.annotation_files, the folder of CLEVRER's annotations")
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        context.progress(done, count, "video")
        if context.stopping:
            context.stop()

    return from_annotations(Annotations(Path(annotations).expanduser()), split.scene_index[:count].tolist(), step)


def answers_of_words(train: Split, split: Split) -> pd.DataFrame:
    """The answers of the words alone, in the categories of which the training split has questions."""
    known, asked = train.questions, split.questions
    names = known.format.categories.names
    chosen = [names.index(name) for name in (PREDICTIVE, COUNTERFACTUAL) if (known.category == names.index(name)).any()]
    known, asked = (table.rows(np.isin(table.category, chosen)) for table in (known, asked))
    if not len(asked.category):
        return pd.DataFrame()
    return words_only_predictions(known, asked).assign(choice_id=np.asarray(asked.choice_id))


def write(table: pd.DataFrame, path: Path) -> dict[str, dict[str, float]]:
    """Writes answers as parquet (no file if empty); returns {"per_question", "per_option"}: percent by category."""
    if table.empty:
        return {"per_question": {}, "per_option": {}}
    table.to_parquet(path, engine="pyarrow", index=False, compression="zstd")
    metrics = metrics_of(table)
    return {kind: {c: v for c, v in metrics[kind].items() if v is not None} for kind in ("per_question", "per_option")}


def levels(
    reader: LinearPositionReader, split: Split, objects: SlotObjects, given: np.ndarray, frames: int
) -> dict[str, dict[str, Answer]]:
    """{level: {category: Answer}}; given (V, 128, 6, 2): the objects' positions as read from the given frames."""
    last, change = given[:, -1:], (given[:, -1:] - given[:, -1 - STEPS : -STEPS]) / STEPS
    future = linear = last + change * np.arange(1, frames + 1, dtype=np.float32)[:, None, None]
    out = {"linear": {PREDICTIVE: predictive_answers(reader, objects, linear)}}
    if split.future is not None:
        future = follow(reader.read_all(split.future[:, :frames]), objects.last[:, None])
        out["true_future"] = {PREDICTIVE: predictive_answers(reader, objects, future)}
    if split.has_truth:
        truth = split.truth

        def without(video: int, k: int) -> np.ndarray:
            position = np.array(truth.without_position[video, k, : split.format.frames + frames])
            return np.asarray(reader.gaps(position[None], objects.shape[video : video + 1])[0])

        out["true_future"][COUNTERFACTUAL] = counterfactual_answers(objects, without)
    seen = np.concatenate([given, future], 1)
    whole = reader.gaps(seen, objects.shape)
    out["copy_last"] = {PREDICTIVE: predictive_answers(reader, objects, last)}
    out["unchanged"] = {COUNTERFACTUAL: counterfactual_answers(objects, lambda video, k: whole[video])}
    meets = split.truth.meets if split.has_truth else first_touches(reader, objects.shape, seen)
    meets = np.where(meets < seen.shape[1], meets, -1)
    out["ancestry"] = {COUNTERFACTUAL: counterfactual_answers(objects, lambda video, k: ancestry_gaps(meets[video], k))}
    return {name: out[name] for name in LEVELS if name in out}


def predictive_answers(reader: LinearPositionReader, objects: SlotObjects, position: np.ndarray) -> Answer:
    """Answers predictive questions from the objects' positions (V, F, 6, 2) in future frames."""
    gaps = reader.gaps(position, objects.shape)
    return lambda question: answer_predictive(question, objects.things(question.video), gaps[question.video])


def counterfactual_answers(objects: SlotObjects, gaps: Callable[[int, int], np.ndarray]) -> Answer:
    """Answers counterfactual questions; gaps(video, k): (6, 6) without object k, over all frames."""

    def answer(question: MultipleChoiceQuestion) -> list[bool]:
        things = objects.things(question.video)
        return answer_counterfactual(question, things, gaps(question.video, removed_object(question, things)))

    return answer
