"""The position reader on a world model: answers read from its rollouts, and from rollouts without an object."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctt.core.build_context import BuildContext
from ctt.data.dataset import Dataset, Split
from ctt.data.positions.linear_reader import LinearPositionReader, PositionReaderSettings, follow
from ctt.data.positions.objects import SlotObjects
from ctt.data.positions.position_answers import COUNTERFACTUAL, PREDICTIVE, answers, asked, removed
from ctt.data.positions.reference_levels import METRICS, SPLIT, imagining, predicting, write
from ctt.data.scene import GIVEN
from ctt.models.model_settings import PredictorSettings, RolloutSettings
from ctt.models.predictor import Predictor
from ctt.models.rollout import rollout
from ctt.training.rollout import load
from ctt.training.threads import threads

ANSWERS = "answers.parquet"


def read(
    settings: PositionReaderSettings,
    world_model: PredictorSettings,
    rollout_settings: RolloutSettings,
    probe_folder: Path,
    state_folder: Path,
    predicted: np.ndarray,
    dataset: Dataset,
    *,
    context: BuildContext,
) -> dict[str, Any]:
    """Writes answers.parquet and metrics.json, which it returns: percent per question by category, and per_option.

    predicted (V, frames, S, D): the rolled-out frames of the validation split. Raises Interrupted between batches when asked
    to stop; a later call begins anew.
    """
    split = dataset.split(SPLIT)
    probe, objects = LinearPositionReader.load(probe_folder), SlotObjects.load(probe_folder)
    questions = asked(split.questions_file, split.scene_index, (PREDICTIVE, COUNTERFACTUAL))
    future = follow(probe.read_all(predicted), objects.last[:, None])
    by_category = {PREDICTIVE: predicting(probe, objects, future)}
    if settings.interventions:
        asked_for = {(q.video, removed(q, objects.things(q.video))) for q in questions if q.category == COUNTERFACTUAL}
        pairs = sorted((video, k) for video, k in asked_for if k is not None)
        with threads(context.threads):
            predictor = load(state_folder, world_model).to(context.device)
            gaps = intervene(predictor, world_model.frameskip, rollout_settings, probe, objects, split, pairs, context)
        by_category[COUNTERFACTUAL] = imagining(objects, lambda video, k: gaps[video, k])
    found = write(answers(questions, by_category), context.folder / ANSWERS)
    metrics = {**found["per_question"], "per_option": found["per_option"]}
    (context.folder / METRICS).write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return metrics


def intervene(
    predictor: Predictor,
    frameskip: int,
    settings: RolloutSettings,
    probe: LinearPositionReader,
    objects: SlotObjects,
    split: Split,
    pairs: Sequence[tuple[int, int]],
    context: BuildContext,
) -> Mapping[tuple[int, int], np.ndarray]:
    """{(video, k): gaps (6, 6)} over all frames of a world without object k, as the world model imagines it.

    The history is the first frames, every `frameskip`-th, with an empty slot in the object's place; of the frames that
    follow, too, only every `frameskip`-th is predicted: between them objects move straight on.
    """
    reach = predictor.history * frameskip
    steps = -(-(GIVEN + settings.frames - reach) // frameskip)
    size = settings.batch * frameskip  # as many windows at a time as in a rollout
    out: dict[tuple[int, int], np.ndarray] = {}
    for first in range(0, len(pairs), size):
        chunk = pairs[first : first + size]
        videos = np.array([video for video, _ in chunk])
        held = objects.first[videos]
        history = np.stack([split.slots[video, :reach:frameskip] for video in videos])
        for row, (_, k) in enumerate(chunk):
            history[row, :, held[row, k]] = probe.empty
        given = torch.from_numpy(history).to(context.device)
        imagined = rollout(predictor, given, 1, steps).cpu().numpy()
        position = follow(probe.read(np.concatenate([history, imagined], 1)), held[:, None])
        for row, (_, k) in enumerate(chunk):
            position[row, :, k] = np.nan
        out |= zip(chunk, probe.gaps(position, objects.shape[videos]), strict=True)
        context.progress(len(out), len(pairs), "intervention")
        if context.stopping:
            context.stop()
    return out
