"""Segment training: the epochs [e0, e1) of any learner, by Lightning, from a saved state to a saved state.

How to train something with it:

1. Derive a `Learner`: its `model`, its `optimizers`, `steps` (optimiser steps an epoch) and
   `gradients(epoch, step)`, which draws its own batch, leaves gradients in `.grad` and returns what to log.
   Everything random in it comes from `derive(seed, purpose, epoch, step)`, or from torch's global generator,
   which is seeded from (seed, epoch, step) before every call. Nothing random is ever carried from step to step.
   A learning-rate schedule is a function of (epoch, step) too: `schedule(epoch, step)` sets the groups' rates.
2. Call `train_segment(learner, seed=…, start=FOLDER or None, epoch_start=…, epoch_end=…, job=…)`.

The state is written into the job's folder as `ctt.training.state` describes. While it trains, checkpoints are written
every `CHECKPOINT_SECONDS` and when the job is asked to stop; a later call with that folder continues there. Stopped and
continued, branched off at an epoch's end, or in one go: the same bytes (same numerics: device, threads, instruction set, torch
build).
"""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment

from ctt.core.build_context import CHECKPOINT, BuildContext
from ctt.core.errors import Diverged, StoreError
from ctt.core.process_group import ProcessGroup
from ctt.training.ddp import GroupStrategy
from ctt.training.learner import Learner
from ctt.training.seeds import derive
from ctt.training.state import load_state, newest_checkpoint, save_state, write_checkpoint
from ctt.training.threads import threads

CHECKPOINT_SECONDS = 30.0
_LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed"}


def train_segment(
    learner: Learner, *, seed: int, start: Path | None, epoch_start: int, epoch_end: int, context: BuildContext
) -> dict[str, float]:
    """Trains the epochs [epoch_start, epoch_end) and writes the state into `job.folder`.

    start: the folder of state `epoch_start`, or None to begin with the learner's own initial weights.
    Logs one line an epoch (step = epoch + 1) and returns the last line's values ({} if there was no epoch).
    Raises Diverged, Interrupted (after a checkpoint), StoreError if `start` is not state `epoch_start`.
    """
    if not 0 <= epoch_start <= epoch_end:
        raise ValueError(f"epochs must satisfy 0 <= start <= end, got {epoch_start} and {epoch_end}")
    world = learner.world
    position = world.broadcast(newest_checkpoint(context.folder))
    at: dict[str, Any] = {"epoch": epoch_start, "step": 0, "sums": {}, "count": 0}
    if position is not None:
        at = load_state(position, learner)
    elif start is not None:
        at = load_state(start, learner)
        if (at["epoch"], at["step"]) != (epoch_start, 0):
            raise StoreError(f"{start} holds the state after {at['epoch']} epochs, not after {epoch_start}")
    if not epoch_start <= at["epoch"] <= epoch_end:
        raise StoreError(
            f"{context.folder} holds a checkpoint of epoch {at['epoch']}, outside {epoch_start}..{epoch_end}"
        )
    context.rewind(at["epoch"])
    world.spread(list(learner.model.state_dict().values()))
    segment = _Segment(learner, seed, epoch_start, epoch_end, at, context)
    if at["epoch"] < epoch_end:
        with _quiet(), torch.random.fork_rng(), threads(context.threads):
            _trainer(context.device, learner.precision, epoch_end - at["epoch"], world).fit(segment, segment.batches())
    if not world.writer:
        return segment.last
    stopped = {"stopped": True} if segment.end < epoch_end else {}
    save_state(context.folder, learner, {"epoch": segment.end, "step": 0, "sums": {}, "count": 0, **stopped})
    shutil.rmtree(context.folder / CHECKPOINT, ignore_errors=True)
    return segment.last


class _Segment(lightning.LightningModule):
    """The learner as Lightning sees it: manual optimisation, batches that are step numbers.

    The learner's model is no module of this one: Lightning would take it from its device at the end, where it is still read.
    """

    def __init__(
        self, learner: Learner, seed: int, first: int, end: int, at: dict[str, Any], context: BuildContext
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.learner, self.context, self.seed = learner, context, seed
        self.first, self.end, self.epoch = first, end, int(at["epoch"])
        self.resume_at = int(at["step"])
        self.sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in at["sums"].items()}
        self.count = int(at["count"])
        self.last: dict[str, float] = {}
        self.saved = time.monotonic()
        self.sigterm = signal.getsignal(signal.SIGTERM)

    def on_fit_start(self) -> None:
        """Takes SIGTERM back from Lightning, which would end the loop before our checkpoint is written."""
        self.learner.model.train()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.sigterm)

    def batches(self) -> _Steps:
        return _Steps(self)

    def configure_optimizers(self) -> Any:
        return self.learner.optimizers

    def training_step(self, step: int, _: int) -> None:
        optimizers = self.optimizers()
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(derive(self.seed, "step", self.epoch, step))
        self.learner.schedule(self.epoch, step)
        values = self.learner.gradients(self.epoch, step)
        values = self.learner.world.total_gradients(list(self.learner.model.parameters()), values)
        for name, value in values.items():
            value = value.detach().double()
            self.sums[name] = self.sums[name].to(value.device) + value if name in self.sums else value
        self.count += 1
        if self.device.type == "cpu" or step % 50 == 0:
            self._check(step)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            optimizer.step()
        self.learner.follow(self.epoch * self.learner.steps + step)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = int(batch) + 1
        done = (self.epoch - self.first) * self.learner.steps + step
        self.context.progress(done, (self.end - self.first) * self.learner.steps, "step", epoch=self.epoch)
        if step < self.learner.steps:  # the end of an epoch is handled below, after its metrics
            self._checkpoint_if_due(self.epoch, step)

    def on_train_epoch_end(self) -> None:
        self._check(self.learner.steps - 1)
        self.learner.model.eval()
        with torch.no_grad(), self.learner.as_read():
            validation = self.learner.validate(self.epoch) if self.learner.world.writer else {}
        self.learner.model.train()
        for name, value in validation.items():  # after the last step no loss would tell that the weights are broken
            if not math.isfinite(value):
                raise Diverged(f"{name} became {value} after epoch {self.epoch}")
        self.last = {name: float(value) / self.count for name, value in self.sums.items()} | validation
        self.sums, self.count = {}, 0
        self.epoch += 1
        self.context.log(self.epoch, **self.last)
        world = self.learner.world
        if self.epoch < self.end and world.broadcast(world.writer and self.learner.enough(self.context.folder)):
            self.end, self.trainer.should_stop = self.epoch, True
        if self.epoch < self.end:
            self._checkpoint_if_due(self.epoch, 0)

    def _check(self, step: int) -> None:
        for name, value in self.sums.items():
            if not math.isfinite(float(value)):
                raise Diverged(f"{name} became {float(value)} in step {step} of epoch {self.epoch}")

    def _checkpoint_if_due(self, epoch: int, step: int) -> None:
        stopping = self.learner.world.any(self.context.stopping)
        if not self.learner.world.writer:
            if stopping:
                self.context.stop()
            return
        if not stopping and time.monotonic() - self.saved < CHECKPOINT_SECONDS:
            return
        self._check(step)
        sums = {name: float(value) for name, value in self.sums.items()}
        write_checkpoint(
            self.context.folder, self.learner, {"epoch": epoch, "step": step, "sums": sums, "count": self.count}
        )
        self.saved = time.monotonic()
        if stopping:
            self.context.stop()


class _Steps:
    """The step numbers of an epoch; the first epoch after a resume begins at its checkpoint's step."""

    def __init__(self, segment: _Segment) -> None:
        self.segment = segment

    def __iter__(self) -> Iterator[int]:
        # a generator, so that an iterator made only to be looked at (Lightning makes one) takes nothing away
        first, self.segment.resume_at = self.segment.resume_at, 0
        yield from range(first, self.segment.learner.steps)


def _trainer(device: str, precision: str, epochs: int, world: ProcessGroup) -> lightning.Trainer:
    """A Lightning trainer that only loops: no logger, checkpoints, bars, summary or cluster detection."""
    kind, _, index = device.partition(":")
    together: dict[str, Any] = {"plugins": [LightningEnvironment()]}
    if world.size > 1:
        together = {"strategy": GroupStrategy(world, torch.device(device)), "num_nodes": world.size}
    return lightning.Trainer(
        accelerator="gpu" if kind == "cuda" else kind,
        devices=[int(index or 0)] if kind == "cuda" else 1,
        precision=_LIGHTNING_PRECISION[precision],  # type: ignore[arg-type]  # a str, where literals are wanted
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **together,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's notes about devices and loaders say nothing that a job's log needs."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            yield
    finally:
        logger.setLevel(level)
