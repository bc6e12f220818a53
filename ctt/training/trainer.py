"""Segment training: Lightning trains the epochs [e0, e1) of any learner, from a saved state to a saved state.

To train a model:

1. Subclass `Learner`: set `model`, `optimizers` and `steps` (optimiser steps per epoch) and implement
   `gradients(epoch, step)`, which draws its own batch, leaves gradients in `.grad` and returns values to log.
   Everything random in it comes from `derive(seed, purpose, epoch, step)`, or from torch's global generator,
   which is seeded from (seed, epoch, step) before every call. No random state is carried from step to step.
   A learning-rate schedule is a function of (epoch, step) too: `schedule(epoch, step)` sets the groups' rates.
2. Call `train_segment(learner, Segment(end=…), seed=…, context=…)`.

The state is written into the context's folder as `ctt.training.state` describes. During training, checkpoints are written
every `CHECKPOINT_SECONDS` and when the process is asked to stop; a later call with that folder continues from there.
Interrupted and continued, branched at the end of an epoch, or uninterrupted: the bytes are the same (given the same
numerics: device, threads, instruction set, torch build).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor

from ctt.core.build_context import CHECKPOINT, BuildContext
from ctt.core.errors import Diverged, StoreError
from ctt.core.process_group import ProcessGroup
from ctt.training.ddp import GroupStrategy
from ctt.training.learner import Learner
from ctt.training.precision import matrix_products
from ctt.training.seeds import derive
from ctt.training.state import load_state, newest_checkpoint, save_state, write_checkpoint
from ctt.training.threads import threads

CHECKPOINT_SECONDS = 30.0
GRADIENT_NORM = "gradient_norm"
"""Logged as the mean over the epoch's steps."""
CHECKED_EVERY = 50
"""Steps after which the logged values are read on a device, in one transfer: reading waits for it. On the CPU: every step."""
_LIGHTNING_PRECISION = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed"}


@dataclasses.dataclass(frozen=True)
class Segment:
    """The epochs [first, end), from the state in folder `start` (None: the learner's initial weights).

    Raises ValueError unless 0 ≤ first ≤ end.
    """

    end: int
    first: int = 0
    start: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.end:
            raise ValueError(f"epochs must satisfy 0 <= first <= end, got {self.first} and {self.end}")


def train_segment(learner: Learner, segment: Segment, *, seed: int, context: BuildContext) -> dict[str, float]:
    """Trains the epochs of the segment and writes the state into `context.folder`.

    Logs one line per epoch (step = epoch + 1) and returns the last line's values ({} if there was no epoch).
    Raises Diverged, Interrupted (after a checkpoint), StoreError if `segment.start` is not state `segment.first`.
    """
    group = learner.group
    position = group.broadcast(newest_checkpoint(context.folder))
    at = _initial_state(learner, segment, position)
    if not segment.first <= at["epoch"] <= segment.end:
        raise StoreError(f"{context.folder} holds a checkpoint of epoch {at['epoch']}, outside {segment.first}..{segment.end}")
    context.rewind(at["epoch"])
    group.spread(list(learner.model.state_dict().values()))
    module = _LearnerModule(learner, seed, segment, at, context)
    if at["epoch"] < segment.end:
        with _quiet(), torch.random.fork_rng(), threads(context.threads):
            _trainer(context.device, learner.precision, segment.end - at["epoch"], group).fit(module, module.batches())
    if not group.writer:
        return module.last
    stopped = {"stopped": True} if module.end < segment.end else {}
    save_state(context.folder, learner, {"epoch": module.end, "step": 0, "sums": {}, "count": 0, **stopped})
    shutil.rmtree(context.folder / CHECKPOINT, ignore_errors=True)
    return module.last


def _initial_state(learner: Learner, segment: Segment, checkpoint: Path | None) -> dict[str, Any]:
    """Loads the checkpoint if there is one, else the segment's start; returns the position: epoch, step, sums, count."""
    if checkpoint is not None:
        return load_state(checkpoint, learner)
    if segment.start is None:
        return {"epoch": segment.first, "step": 0, "sums": {}, "count": 0}
    at = load_state(segment.start, learner)
    if (at["epoch"], at["step"]) != (segment.first, 0):
        raise StoreError(f"{segment.start} holds the state after {at['epoch']} epochs, not after {segment.first}")
    return at


class _LearnerModule(lightning.LightningModule):
    """Wraps the learner for Lightning: manual optimisation; batches are step numbers.

    The learner's model is not a submodule: Lightning would move it off its device at the end, where it is still needed.
    """

    def __init__(self, learner: Learner, seed: int, segment: Segment, at: dict[str, Any], context: BuildContext) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.learner, self.context, self.seed = learner, context, seed
        self.first, self.end, self.epoch = segment.first, segment.end, int(at["epoch"])
        self.resume_at = int(at["step"])
        saved = torch.tensor(list(at["sums"].values()), dtype=torch.float64).to(context.device)
        self.sums = dict(zip(at["sums"], saved.unbind(), strict=True))
        self.count = int(at["count"])
        self.last: dict[str, float] = {}
        self.saved = time.monotonic()
        self.sigterm = signal.getsignal(signal.SIGTERM)

    def on_fit_start(self) -> None:
        """Restores our SIGTERM handler: Lightning's would end the loop before our checkpoint is written."""
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
        with matrix_products(self.learner.precision, self.device):
            values = self.learner.gradients(self.epoch, step)
        parameters = list(self.learner.model.parameters())
        values = self.learner.group.total_gradients(parameters, values) | {GRADIENT_NORM: gradient_norm(parameters)}
        for name, value in values.items():
            value = value.detach().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += 1
        if self.device.type == "cpu" or step % CHECKED_EVERY == 0:
            self._check(step)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            optimizer.step()
        self.learner.update_average(self.epoch * self.learner.steps + step)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = int(batch) + 1
        done = (self.epoch - self.first) * self.learner.steps + step
        self.context.progress(done, (self.end - self.first) * self.learner.steps, "step", epoch=self.epoch)
        if step < self.learner.steps:  # the end of an epoch is handled below, after its metrics
            self._checkpoint_if_due(self.epoch, step)

    def on_train_epoch_end(self) -> None:
        sums = self._check(self.learner.steps - 1)
        self.learner.model.eval()
        with torch.no_grad(), self.learner.with_average():
            validation = self.learner.validate(self.epoch) if self.learner.group.writer else {}
        self.learner.model.train()
        for name, value in validation.items():  # no later loss would show that the last step broke the weights
            if not math.isfinite(value):
                raise Diverged(f"{name} became {value} after epoch {self.epoch}")
        self.context.warn(self.learner.warning(self.epoch, validation) if validation else None)
        self.last = {name: value / self.count for name, value in sums.items()} | validation | self.learner.rates()
        self.sums, self.count = {}, 0
        self.epoch += 1
        self.context.log(self.epoch, **self.last)
        group = self.learner.group
        if self.epoch < self.end and group.broadcast(group.writer and self.learner.should_stop(self.context.folder)):
            self.end, self.trainer.should_stop = self.epoch, True
        if self.epoch < self.end:
            self._checkpoint_if_due(self.epoch, 0)

    def _check(self, step: int) -> dict[str, float]:
        """Reads the sums, in one transfer. Raises Diverged if one is not finite."""
        sums = dict(zip(self.sums, torch.stack(list(self.sums.values())).cpu().tolist(), strict=True)) if self.sums else {}
        for name, value in sums.items():
            if not math.isfinite(value):
                raise Diverged(f"{name} became {value} in step {step} of epoch {self.epoch}")
        return sums

    def _checkpoint_if_due(self, epoch: int, step: int) -> None:
        stopping = self.learner.group.any(self.context.stopping)
        if not self.learner.group.writer:
            if stopping:
                self.context.stop()
            return
        if not stopping and time.monotonic() - self.saved < CHECKPOINT_SECONDS:
            return
        at = {"epoch": epoch, "step": step, "sums": self._check(step), "count": self.count}
        write_checkpoint(self.context.folder, self.learner, at)
        self.saved = time.monotonic()
        if stopping:
            self.context.stop()


def gradient_norm(parameters: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients together, a scalar that stays on their device."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


class _Steps:
    """The step numbers of an epoch; the first epoch after a resume begins at the checkpoint's step."""

    def __init__(self, module: _LearnerModule) -> None:
        self.module = module

    def __iter__(self) -> Iterator[int]:
        # a generator, so that an iterator that is made and never advanced (Lightning makes one) does not reset resume_at
        first, self.module.resume_at = self.module.resume_at, 0
        yield from range(first, self.module.learner.steps)


def _trainer(device: str, precision: str, epochs: int, group: ProcessGroup) -> lightning.Trainer:
    """A Lightning trainer that only loops: no logger, checkpoints, bars, summary or cluster detection."""
    kind, _, index = device.partition(":")
    distribution: dict[str, Any] = {"plugins": [LightningEnvironment()]}
    if group.size > 1:
        distribution = {"strategy": GroupStrategy(group, torch.device(device)), "num_nodes": group.size}
    return lightning.Trainer(
        accelerator="gpu" if kind == "cuda" else kind,
        devices=[int(index or 0)] if kind == "cuda" else 1,
        precision=_LIGHTNING_PRECISION[precision],  # type: ignore[arg-type]  # a str instead of its literals
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **distribution,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences Lightning's notes about devices and loaders, which a job's log does not need."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            yield
    finally:
        logger.setLevel(level)
