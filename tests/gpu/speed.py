"""Iterations a second and peak memory of trainings as `ctt` runs them, of ALOE's answers, and of a rollout of 1,000 videos."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from ctt.config import Config
from ctt.core.memory import peak_mib, reset_peak
from ctt.models.graphs.graph_source import graph_sources
from ctt.models.model_settings import RolloutSettings
from ctt.training.aloe_answers import answer
from ctt.training.batches.question_batches import QuestionBatches
from ctt.training.rollout import roll_out
from ctt.training.state import MODEL
from ctt.training.trainer import Segment, train_segment
from ctt.training.vqa import VqaLearner
from ctt.training.world_model import WorldModelLearner
from tests.gpu.checks import Outcome
from tests.gpu.material import BOTH_LOSSES, Material, QuietContext

SEQUENCES = 76_368
"""Of CLEVRER's validation split."""


class StepClock(QuietContext):
    """Times the steps from number `first` + 1 to `last`: the device has ended all of them, and none before them."""

    def __init__(self, material: Material, first: int, last: int) -> None:
        super().__init__(material.new_folder(), device=material.device)
        self.material, self.first, self.last = material, first, last
        self.measured: dict[str, float] = {}
        self._start = 0.0

    def progress(self, done: float, total: float, unit: str, **extra: Any) -> None:
        super().progress(done, total, unit, **extra)
        if unit == "step" and done == self.first:
            self.begin()
        if unit == "step" and done == self.last:
            self.end()

    def begin(self) -> None:
        reset_peak(self.device)
        self.material.synchronize()
        self._start = time.perf_counter()

    def end(self) -> None:
        self.material.synchronize()
        seconds = (time.perf_counter() - self._start) / (self.last - self.first)
        self.measured = {
            "steps": self.last - self.first,
            "iterations_per_second": round(1 / seconds, 3),
            "peak_memory_mib": round(peak_mib(self.device), 1),
        }


def measured(material: Material, out: Outcome, name: str, clock: StepClock) -> None:
    """Records what the clock has measured as the figure `name`."""
    out.values[name] = clock.measured
    material.figures[name] = clock.measured["iterations_per_second"]


def world_model_learner(material: Material, config: Config, steps: int) -> WorldModelLearner:
    """Of an epoch with so many steps."""
    model = config.world_model
    windows = dataclasses.replace(model.windows, per_epoch=steps * model.batch_size, validation=256)
    made = dataclasses.replace(model, epochs=1, windows=windows)
    return WorldModelLearner(made, config.method(), config.num_masked_slots, 0, material.many, material.device)


def world_model_speed(material: Material, out: Outcome, recipe: str) -> None:
    """The step without losses and that with both, at the recipe's batch size."""
    first, last = material.of((20, 60), (2, 4))
    for name, losses in (("plain", ()), ("both losses", BOTH_LOSSES)):
        learner = world_model_learner(material, material.recipe(recipe, *losses), last)
        clock = StepClock(material, first, last)
        train_segment(learner, Segment(1), seed=0, context=clock)
        measured(material, out, f"{name}, {recipe}", clock)
        del learner


def learner_of_source(material: Material, source: str, steps: int) -> WorldModelLearner:
    """With both losses by a source of the slot graph; half the batch, of the videos that have ground truth."""
    size = f"world_model.batch_size={material.of(1024, 8)}"
    config = material.recipe("fast", *BOTH_LOSSES, f"world_model.graph.source={source}", size)
    model = config.world_model
    windows = dataclasses.replace(model.windows, per_epoch=steps * model.batch_size, validation=64)
    made = dataclasses.replace(model, epochs=1, windows=windows)
    return WorldModelLearner(made, config.method(), config.num_masked_slots, 0, material.dataset, material.device)


def source_speed(material: Material, out: Outcome) -> None:
    """The step with both losses by every source of the slot graph."""
    first, last = material.of((4, 14), (1, 2))
    for source in graph_sources():
        clock, learner = StepClock(material, first, last), learner_of_source(material, source, last)
        train_segment(learner, Segment(1), seed=0, context=clock)
        measured(material, out, f"both losses, batch {learner.settings.batch_size}, graph {source}", clock)


def aloe_training(material: Material, out: Outcome, recipe: str) -> None:
    """ALOE's step, over several epochs: batches differ in size, and each size that CUDA graphs meet is recorded once."""
    settings = dataclasses.replace(material.recipe(recipe).aloe, epochs=4, schedule_epochs=None, eval_every=4)
    learner = VqaLearner(settings, 0, material.dataset, material.rollouts, material.context())
    clock = StepClock(material, 2 * learner.steps, 4 * learner.steps)
    train_segment(learner, Segment(4), seed=0, context=clock)
    measured(material, out, f"ALOE, {recipe}", clock)


def aloe_answers(material: Material, out: Outcome) -> None:
    """ALOE's answers to all training questions, and how long those of CLEVRER's validation split take at that rate."""
    split, rollouts = material.dataset.split("train"), material.rollouts["train"]
    for precision in ("bf16", "fp32"):
        settings = dataclasses.replace(material.recipe("published").aloe, precision=precision)
        learner = VqaLearner(settings, 0, material.dataset, material.rollouts, material.context())
        batches = QuestionBatches(settings, split, rollouts, device=torch.device(material.device))
        model, questions = learner.model.eval(), np.arange(batches.questions)
        answer(model, settings, batches, questions[: len(questions) // 8 + 1], 0, material.device)
        reset_peak(material.device)
        began = time.perf_counter()
        answer(model, settings, batches, questions, 0, material.device)
        seconds = time.perf_counter() - began
        rate = len(batches.video) / seconds
        out.values[f"evaluation, {precision}"] = {
            "sequences_per_second": round(rate, 1),
            "seconds_of_clevrer": round(SEQUENCES / rate, 2),
            "published_seconds_of_clevrer": 24,
            "peak_memory_mib": round(peak_mib(material.device), 1),
        }
        material.figures[f"evaluation, {precision}"] = rate


def state_of(material: Material, config: Config) -> Path:
    """A folder with the initial weights of a world model."""
    learner = world_model_learner(material, config, 1)
    folder = material.new_folder()
    save_file({name: value.cpu().contiguous() for name, value in learner.model.state_dict().items()}, folder / MODEL)
    return folder


def rollout_of_videos(material: Material, out: Outcome) -> None:
    """The stage `rollout` of 1,000 videos, files included, at its default batch and at a larger one."""
    config, count = material.recipe("published"), material.of(1000, 4)
    folder, videos = state_of(material, config), material.videos(count)
    for batch in (RolloutSettings().batch, material.of(128, 2)):
        settings = dataclasses.replace(config.rollout, batch=batch)
        context = material.context()
        reset_peak(material.device)
        began = time.perf_counter()
        roll_out(config.world_model, settings, folder, videos, context=context)
        seconds = time.perf_counter() - began
        out.values[f"batch {batch}"] = {
            "seconds": round(seconds, 3),
            "videos_per_second": round(count / seconds, 1),
            "published_seconds_of_1000": 27 / 20 + 31 / 20,
            "peak_memory_mib": round(peak_mib(material.device), 1),
        }
        material.figures[f"rollout, batch {batch}"] = count / seconds
    written = np.load(context.folder / "rollout_train.npy", mmap_mode="r")
    out.expect(written.shape[:2] == (count, 32) and bool(np.isfinite(written[-1]).all()), "frames are missing or not finite")
