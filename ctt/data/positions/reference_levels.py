"""Levels: the reader's probe, made once a data set, and what reading gives without any world model.

true_future   the true future's slots are read; of counterfactual questions, the true runs without the object (synthetic only)
linear        positions read of the given frames go on as they went last
copy_last     they stay
unchanged     counterfactual questions are answered with what happens while the object is there
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
from ctt.data.positions.linear_reader import LinearPositionReader, PositionReaderSettings, fit, follow
from ctt.data.positions.matching import match, matched
from ctt.data.positions.objects import ObjectTracks, SlotObjects, from_annotations, from_truth
from ctt.data.positions.position_answers import (
    COUNTERFACTUAL,
    PREDICTIVE,
    Answer,
    MultipleChoiceQuestion,
    answers,
    asked,
    imagine,
    predict,
    removed,
)
from ctt.data.scene import GIVEN

SPLIT = "validation"
METRICS = "metrics.json"
LEVELS = ("true_future", "linear", "copy_last", "unchanged")
STEPS = 10
"""Frames over which the change is taken that linear extrapolation goes on with."""


def make(
    settings: PositionReaderSettings, dataset: Dataset, annotations: str | None, frames: int, context: BuildContext
) -> None:
    """Writes probe.npz, objects.npz of the validation split, LEVEL.parquet each, and metrics.json.

    frames: how many of the future are read, as many as are rolled out. Raises DataError where positions or programs are
    missing.
    """
    train, split = dataset.split("train"), dataset.split(SPLIT)
    learnt, tracks = (
        tracks_of(train, settings.videos, annotations, context),
        tracks_of(split, None, annotations, context),
    )
    slots = np.array(train.slots[: len(learnt)])
    if learnt.slot is None:
        learnt = match(slots, learnt, settings.stride)
    probe = fit(slots, learnt, settings.stride)
    seen = probe.read_all(split.slots)
    if tracks.slot is None:
        tracks = matched(tracks, seen, settings.stride)
    objects = SlotObjects.of(tracks)
    probe.save(context.folder)
    objects.save(context.folder)
    questions = asked(split.questions_file, split.scene_index, (PREDICTIVE, COUNTERFACTUAL))
    found = {}
    for name, by_category in levels(probe, split, objects, follow(seen, tracks.slots), frames).items():
        found[name] = write(answers(questions, by_category), context.folder / f"{name}.parquet")
    text = json.dumps({"levels": found, "reach": probe.reach.tolist()}, indent=1, sort_keys=True)
    (context.folder / METRICS).write_text(text + "\n", encoding="utf-8")


def tracks_of(split: Split, videos: int | None, annotations: str | None, context: BuildContext) -> ObjectTracks:
    """The first `videos` (None: all) of a split. Raises DataError where their positions are not known."""
    count = min(videos or split.videos, split.videos)
    if split.has_truth:
        return from_truth(split, count)
    if annotations is None:
        raise DataError("the reader needs positions: data.annotation_files, the folder of CLEVRER's annotations")
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        context.progress(done, count, "video")
        if context.stopping:
            context.stop()

    return from_annotations(Annotations(Path(annotations).expanduser()), split.scene_index[:count].tolist(), step)


def write(table: pd.DataFrame, path: Path) -> dict[str, dict[str, float]]:
    """Writes answers as parquet; returns {"per_question", "per_option"}: percent by category. Of nothing it writes no file."""
    if table.empty:
        return {"per_question": {}, "per_option": {}}
    table.to_parquet(path, engine="pyarrow", index=False, compression="zstd")
    metrics = metrics_of(table)
    return {kind: {c: v for c, v in metrics[kind].items() if v is not None} for kind in ("per_question", "per_option")}


def levels(
    probe: LinearPositionReader, split: Split, objects: SlotObjects, given: np.ndarray, frames: int
) -> dict[str, dict[str, Answer]]:
    """How each level answers the questions of a category; given (V, 128, 6, 2): the objects' positions as they were read."""
    last, change = given[:, -1:], (given[:, -1:] - given[:, -1 - STEPS : -STEPS]) / STEPS
    future = linear = last + change * np.arange(1, frames + 1, dtype=np.float32)[:, None, None]
    out = {"linear": {PREDICTIVE: predicting(probe, objects, linear)}}
    if split.future is not None:
        future = follow(probe.read_all(split.future[:, :frames]), objects.last[:, None])
        out["true_future"] = {PREDICTIVE: predicting(probe, objects, future)}
    if split.has_truth:
        truth = split.truth

        def without(video: int, k: int) -> np.ndarray:
            position = np.array(truth.without_position[video, k, : GIVEN + frames])
            return probe.gaps(position[None], objects.shape[video : video + 1])[0]

        out["true_future"][COUNTERFACTUAL] = imagining(objects, without)
    whole = probe.gaps(np.concatenate([given, future], 1), objects.shape)
    out["copy_last"] = {PREDICTIVE: predicting(probe, objects, last)}
    out["unchanged"] = {COUNTERFACTUAL: imagining(objects, lambda video, k: whole[video])}
    return {name: out[name] for name in LEVELS if name in out}


def predicting(probe: LinearPositionReader, objects: SlotObjects, position: np.ndarray) -> Answer:
    """Answers predictive questions from the objects' positions (V, F, 6, 2) in the frames to come."""
    gaps = probe.gaps(position, objects.shape)
    return lambda question: predict(question, objects.things(question.video), gaps[question.video])


def imagining(objects: SlotObjects, gaps: Callable[[int, int], np.ndarray]) -> Answer:
    """Answers counterfactual questions; gaps(video, k): those (6, 6) of a world without object k, over all frames."""

    def answer(question: MultipleChoiceQuestion) -> list[bool]:
        things = objects.things(question.video)
        k = removed(question, things)
        return [False] * len(question.choices) if k is None else imagine(question, things, gaps(question.video, k))

    return answer
