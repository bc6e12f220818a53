"""The position reader applied to a world model: answers from its rollouts, and from rollouts with an object removed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctt.core.build_context import BuildContext
from ctt.data.dataset import Dataset, Split
from ctt.data.positions.descendants import ancestry_gaps, first_touches
from ctt.data.positions.linear_reader import LinearPositionReader, follow
from ctt.data.positions.objects import SlotObjects
from ctt.data.positions.position_answers import COUNTERFACTUAL, PREDICTIVE, answers, read_questions, removed_object
from ctt.data.positions.reader_settings import PositionReaderSettings
from ctt.data.positions.reference_levels import METRICS, SPLIT, counterfactual_answers, predictive_answers, write
from ctt.data.positions.unread import unread_questions
from ctt.models.model_settings import RolloutSettings
from ctt.models.predictor import Predictor
from ctt.models.rollout import rollout
from ctt.training.positions.counterfactual import Factual, without
from ctt.training.positions.removal import Everybody, Graph, Oracle, Reach, Touch
from ctt.training.rollout import load
from ctt.training.slot_graphs import SlotGraph, StateGraphs, side_of
from ctt.training.threads import threads
from ctt.training.training_settings import WorldModelSettings

ANSWERS = "answers.parquet"
ANCESTRY = "ancestry_of_rollout"
"""The level of a run's own: the collisions seen or rolled out, less those that descend from the object. Not with reach=all."""


def read(
    settings: PositionReaderSettings,
    world_model: WorldModelSettings,
    graph: SlotGraph | None,
    rollout_settings: RolloutSettings,
    reader_folder: Path,
    state_folder: Path,
    predicted: np.ndarray,
    dataset: Dataset,
    *,
    context: BuildContext,
) -> dict[str, Any]:
    """Writes answers.parquet, ancestry_of_rollout.parquet and metrics.json; returns the latter: accuracies (percent) per
    question and per_option, and those of the run's own `levels`.

    predicted (V, frames, S, D): the rolled-out frames of the validation split; graph: that which settings.reach=graph reads.
    Raises Interrupted between batches when asked to stop; a later call starts again.
    """
    split = dataset.split(SPLIT)
    reader, objects = LinearPositionReader.load(reader_folder), SlotObjects.load(reader_folder)
    questions = read_questions(split.questions_file, split.scene_index, (PREDICTIVE, COUNTERFACTUAL))
    not_read = unread_questions(questions, objects.things)
    future = follow(reader.read_all(predicted), objects.last[:, None])
    by_category = {PREDICTIVE: predictive_answers(reader, objects, future)}
    levels = {}
    if settings.interventions:
        asked = [q for q in questions if q.category == COUNTERFACTUAL and (q.scene, q.question_id) not in not_read]
        pairs = sorted({(q.video, removed_object(q, objects.things(q.video))) for q in asked})
        with threads(context.threads):
            predictor = load(state_folder, world_model).to(context.device)
            if settings.reach == "all":
                gaps = intervene(predictor, world_model.frameskip, rollout_settings, reader, objects, split, pairs, context)
            else:
                reach = reach_of(settings, world_model, graph, predictor, reader, objects, split, state_folder)
                factual = Factual(split.slots, predicted, objects)
                gaps = without(predictor, world_model.frameskip, reader, factual, pairs, reach, context)
        by_category[COUNTERFACTUAL] = counterfactual_answers(objects, lambda video, k: gaps[video, k])
        if settings.reach != "all":
            given = follow(reader.read_all(split.slots), objects.first[:, None])
            meets = first_touches(reader, objects.shape, np.concatenate([given, future], 1))
            ancestry = {COUNTERFACTUAL: counterfactual_answers(objects, lambda video, k: ancestry_gaps(meets[video], k))}
            levels[ANCESTRY] = write(answers(questions, ancestry, not_read), context.folder / f"{ANCESTRY}.parquet")
    found = write(answers(questions, by_category, not_read), context.folder / ANSWERS)
    metrics = {**found["per_question"], "per_option": found["per_option"]} | ({"levels": levels} if levels else {})
    (context.folder / METRICS).write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return metrics


def reach_of(
    settings: PositionReaderSettings,
    world_model: WorldModelSettings,
    graph: SlotGraph | None,
    predictor: Predictor,
    reader: LinearPositionReader,
    objects: SlotObjects,
    split: Split,
    state_folder: Path,
) -> Reach:
    """The way of `reader.reach`; graph: of reach=graph."""
    if settings.reach == "all":
        return Everybody()
    if settings.reach == "oracle":
        return Oracle(split.truth)
    if settings.reach == "graph":
        assert graph is not None
        device = next(predictor.parameters()).device
        side = side_of(state_folder, world_model, graph.settings, split.slots.shape[-1], device)
        return Graph(StateGraphs(predictor, graph.settings, side), graph.threshold, world_model.frameskip, objects)
    return Touch(reader, objects)


def intervene(
    predictor: Predictor,
    frameskip: int,
    settings: RolloutSettings,
    reader: LinearPositionReader,
    objects: SlotObjects,
    split: Split,
    pairs: Sequence[tuple[int, int]],
    context: BuildContext,
) -> Mapping[tuple[int, int], np.ndarray]:
    """{(video, k): gaps (6, 6)} between objects over all frames, all of them imagined (reader.reach=all) without object k.

    The history is the first frames, every `frameskip`-th, with an empty slot in the object's place. Of the following
    frames, too, only every `frameskip`-th is predicted; between them objects are taken to move in straight lines.
    """
    reach = predictor.history * frameskip
    steps = -(-(split.slots.shape[1] + settings.frames - reach) // frameskip)
    size = settings.batch * frameskip  # as many windows at a time as in a rollout
    out: dict[tuple[int, int], np.ndarray] = {}
    for first in range(0, len(pairs), size):
        chunk = pairs[first : first + size]
        videos = np.array([video for video, _ in chunk])
        held = objects.first[videos]
        history = np.stack([split.slots[video, :reach:frameskip] for video in videos])
        for row, (_, k) in enumerate(chunk):
            history[row, :, held[row, k]] = reader.empty
        given = torch.from_numpy(history).to(context.device)
        frames = rollout(predictor, given, 1, steps).cpu().numpy()
        position = follow(reader.read(np.concatenate([history, frames], 1)), held[:, None])
        for row, (_, k) in enumerate(chunk):
            position[row, :, k] = np.nan
        out |= zip(chunk, reader.gaps(position, objects.shape[videos]), strict=True)
        context.progress(len(out), len(pairs), "intervention")
        if context.stopping:
            context.stop()
    return out
