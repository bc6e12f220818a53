"""Fitting the position reader, once per data set, and its reference levels: its answers without a world model.

true_future   positions read from the true future; counterfactual: the true runs without the object (synthetic data only)
linear        positions read from the given frames, extrapolated linearly
copy_last     the last of these positions, unchanged
unchanged     counterfactual questions answered by the collisions that happen with the object present
ancestry      by those of them that do not descend from the object (unless reader.reach=all, which earlier versions had alone)
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
from ctt.data.clevrer.annotations import Annotations
from ctt.data.dataset import Dataset, Split
from ctt.data.positions.descendants import ancestry_gaps
from ctt.data.positions.linear_reader import LinearPositionReader, PositionReaderSettings, fit, follow
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

SPLIT = "validation"
METRICS = "metrics.json"
LEVELS = ("true_future", "linear", "copy_last", "unchanged", "ancestry")
STEPS = 10
"""Frames over which the velocity of the linear extrapolation is measured."""


def make(settings: PositionReaderSettings, dataset: Dataset, annotations: str | None, frames: int, context: BuildContext) -> None:
    """Writes probe.npz, objects.npz of the validation split, LEVEL.parquet for each level, and metrics.json.

    frames: future frames to read, as many as are rolled out. Raises DataError if positions or programs are missing.
    """
    train, split = dataset.split("train"), dataset.split(SPLIT)
    fitted = tracks_of(train, settings.videos, annotations, context)
    tracks = tracks_of(split, None, annotations, context)
    slots = np.array(train.slots[: len(fitted)])
    if fitted.slot is None:
        fitted = match(slots, fitted, settings.stride)
    reader = fit(slots, fitted, settings.stride)
    seen = reader.read_all(split.slots)
    if tracks.slot is None:
        tracks = matched(tracks, seen, settings.stride)
    objects = SlotObjects.of(tracks)
    reader.save(context.folder)
    objects.save(context.folder)
    questions = read_questions(split.questions_file, split.scene_index, (PREDICTIVE, COUNTERFACTUAL))
    found = {}
    for name, by_category in levels(reader, split, objects, follow(seen, tracks.slots), frames).items():
        if name == "ancestry" and settings.reach == "all":
            continue
        found[name] = write(answers(questions, by_category), context.folder / f"{name}.parquet")
    text = json.dumps({"levels": found, "reach": reader.reach.tolist()}, indent=1, sort_keys=True)
    (context.folder / METRICS).write_text(text + "\n", encoding="utf-8")


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
    out["ancestry"] = {COUNTERFACTUAL: counterfactual_answers(objects, lambda v, k: ancestry_gaps(reader, objects, seen, v, k))}
    return {name: out[name] for name in LEVELS if name in out}


def predictive_answers(reader: LinearPositionReader, objects: SlotObjects, position: np.ndarray) -> Answer:
    """Answers predictive questions from the objects' positions (V, F, 6, 2) in future frames."""
    gaps = reader.gaps(position, objects.shape)
    return lambda question: answer_predictive(question, objects.things(question.video), gaps[question.video])


def counterfactual_answers(objects: SlotObjects, gaps: Callable[[int, int], np.ndarray]) -> Answer:
    """Answers counterfactual questions; gaps(video, k): (6, 6) without object k, over all frames."""

    def answer(question: MultipleChoiceQuestion) -> list[bool]:
        things = objects.things(question.video)
        k = removed_object(question, things)
        if k is None:
            return [False] * len(question.choices)
        return answer_counterfactual(question, things, gaps(question.video, k))

    return answer
