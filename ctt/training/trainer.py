"""Segment training: the epochs [e0, e1) of any learner, by Lightning, from a saved state to a saved state.

How to train something with it:

1. Derive a `Learner`: its `model`, its `optimizers`, `steps` (optimiser steps an epoch) and
   `gradients(epoch, step)`, which draws its own batch, leaves gradients in `.grad` and returns what to log.
   Everything random in it comes from `derive(seed, purpose, epoch, step)`, or from torch's global generator,
   which is seeded from (seed, epoch, step) before every call. Nothing random is ever carried from step to step.
   A learning-rate schedule is a function of (epoch, step) too: `schedule(epoch, step)` sets the groups' rates.
2. Call `train_segment(learner, seed=…, start=FOLDER or None, epoch_start=…, epoch_end=…, job=…)`.

A state folder holds `model.safetensors` (the model's state_dict: the average of its weights over the last steps where the
learner keeps one, and then `weights.safetensors` holds the weights themselves), `optimizer.safetensors` (moments, named
`optimizer/parameter/moment`), `side.safetensors` where there is a side network (its weights as `model/…`, its moments as
`optimizer/…`) and `state.json` ({"epoch", "step", "sums", "count"}; "stopped" if the learner had enough before the last
epoch). While it trains, these lie in `checkpoint/NNN/` of the job's folder, written every `CHECKPOINT_SECONDS` and when
the job is asked to stop; a later call with that folder continues there. Stopped and continued, forked at an epoch's end,
or in one go: the same bytes (same numerics: device, threads, instruction set, torch build).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import math
import os
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
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ctt.errors import Diverged, StoreError
from ctt.job import CHECKPOINT, Job
from ctt.training.together import Together
from ctt.world import ALONE, World

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
WEIGHTS, SIDE = "weights.safetensors", "side.safetensors"
CHECKPOINT_SECONDS = 30.0
_LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed"}


def derive(seed: int, purpose: str, epoch: int = 0, step: int = 0) -> int:
    """A 63-bit seed that depends on all four and on nothing else."""
    text = f"{seed}/{purpose}/{epoch}/{step}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, epoch: int = 0, step: int = 0) -> torch.Generator:
    """A CPU generator seeded with `derive(…)`."""
    return torch.Generator().manual_seed(derive(seed, purpose, epoch, step))


@dataclasses.dataclass
class Side:
    """A network beside the model, with an optimizer of its own. Training carries it along; the model never meets it."""

    model: nn.Module
    optimizer: torch.optim.Optimizer


class Learner:
    """What a segment trains. Subclasses set the first three and write `gradients`."""

    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    steps: int
    world: World = ALONE
    """The processes that share its batches: `gradients` then leaves this one's part of sums over all."""
    precision: str = "fp32"
    average: float | None = None
    """Decay per step of an exponential moving average of the weights, which validation and readers then use."""
    averaged: dict[str, Tensor] | None = None
    """That average, by parameter name; the trainer keeps it."""
    side: Side | None = None
    """A side network, from when the learner has made it; the learner trains it, the trainer saves and loads it."""

    def make_side(self) -> Side:
        """The side network as it begins."""
        raise NotImplementedError

    def follow(self, done: int) -> None:
        """Moves the average on after step number `done` (from 0); the first steps weigh more, so that it is no relic of them."""
        if self.average is None:
            return
        decay = min(self.average, (1 + done) / (10 + done))
        weights = {name: value.detach() for name, value in self.model.state_dict().items()}
        if self.averaged is None:
            self.averaged = {name: value.clone() for name, value in weights.items()}
        for name, value in weights.items():
            self.averaged[name].lerp_(value, 1 - decay)

    @contextlib.contextmanager
    def as_read(self) -> Iterator[None]:
        """Meanwhile the model is what readers of the state will get: the averaged one, where there is an average."""
        if self.averaged is None:
            yield
            return
        weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.averaged)
        try:
            yield
        finally:
            self.model.load_state_dict(weights)

    def gradients(self, epoch: int, step: int) -> dict[str, Tensor]:
        """Leaves the gradients of step `step` of epoch `epoch` (both from 0) in `.grad` (they are None on entry).

        Returns detached scalars, among them `train_loss`; their means over the epoch are logged under their names.
        All of them have to be finite, else training stops with Diverged.
        """
        raise NotImplementedError

    def schedule(self, epoch: int, step: int) -> None:
        """Sets the learning rates for this step; the default leaves them constant."""

    def enough(self, folder: Path) -> bool:
        """Whether training ends here, before its last epoch; asked after each epoch's line has been logged in `folder`."""
        return False

    def validate(self, epoch: int) -> dict[str, float]:
        """Metrics logged beside the epoch's means, called after its last step with the model in eval mode."""
        return {}


def train_segment(
    learner: Learner, *, seed: int, start: Path | None, epoch_start: int, epoch_end: int, job: Job
) -> dict[str, float]:
    """Trains the epochs [epoch_start, epoch_end) and writes the state into `job.folder`.

    start: the folder of state `epoch_start`, or None to begin with the learner's own initial weights.
    Logs one line an epoch (step = epoch + 1) and returns the last line's values ({} if there was no epoch).
    Raises Diverged, Interrupted (after a checkpoint), StoreError if `start` is not state `epoch_start`.
    """
    if not 0 <= epoch_start <= epoch_end:
        raise ValueError(f"epochs must satisfy 0 <= start <= end, got {epoch_start} and {epoch_end}")
    world = learner.world
    position = world.told(_newest_checkpoint(job.folder))
    at: dict[str, Any] = {"epoch": epoch_start, "step": 0, "sums": {}, "count": 0}
    if position is not None:
        at = load_state(position, learner)
    elif start is not None:
        at = load_state(start, learner)
        if (at["epoch"], at["step"]) != (epoch_start, 0):
            raise StoreError(f"{start} holds the state after {at['epoch']} epochs, not after {epoch_start}")
    if not epoch_start <= at["epoch"] <= epoch_end:
        raise StoreError(f"{job.folder} holds a checkpoint of epoch {at['epoch']}, outside {epoch_start}..{epoch_end}")
    job.rewind(at["epoch"])
    world.spread(list(learner.model.state_dict().values()))
    segment = _Segment(learner, seed, epoch_start, epoch_end, at, job)
    if at["epoch"] < epoch_end:
        with _quiet(), torch.random.fork_rng(), threads(job.threads):
            _trainer(job.device, learner.precision, epoch_end - at["epoch"], world).fit(segment, segment.batches())
    if not world.writer:
        return segment.last
    stopped = {"stopped": True} if segment.end < epoch_end else {}
    save_state(job.folder, learner, {"epoch": segment.end, "step": 0, "sums": {}, "count": 0, **stopped})
    shutil.rmtree(job.folder / CHECKPOINT, ignore_errors=True)
    return segment.last


class _Segment(lightning.LightningModule):
    """The learner as Lightning sees it: manual optimisation, batches that are step numbers."""

    def __init__(self, learner: Learner, seed: int, first: int, end: int, at: dict[str, Any], job: Job) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = learner.model
        self.learner, self.job, self.seed = learner, job, seed
        self.first, self.end, self.epoch = first, end, int(at["epoch"])
        self.resume_at = int(at["step"])
        self.sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in at["sums"].items()}
        self.count = int(at["count"])
        self.last: dict[str, float] = {}
        self.saved = time.monotonic()
        self.sigterm = signal.getsignal(signal.SIGTERM)

    def on_fit_start(self) -> None:
        """Takes SIGTERM back from Lightning, which would end the loop before our checkpoint is written."""
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
        values = self.learner.world.total_gradients(list(self.model.parameters()), values)
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
        self.job.progress(done, (self.end - self.first) * self.learner.steps, "step", epoch=self.epoch)
        if step < self.learner.steps:  # the end of an epoch is handled below, after its metrics
            self._checkpoint_if_due(self.epoch, step)

    def on_train_epoch_end(self) -> None:
        self._check(self.learner.steps - 1)
        self.model.eval()
        with torch.no_grad(), self.learner.as_read():
            validation = self.learner.validate(self.epoch) if self.learner.world.writer else {}
        self.model.train()
        self.last = {name: float(value) / self.count for name, value in self.sums.items()} | validation
        self.sums, self.count = {}, 0
        self.epoch += 1
        self.job.log(self.epoch, **self.last)
        world = self.learner.world
        if self.epoch < self.end and world.told(world.writer and self.learner.enough(self.job.folder)):
            self.end, self.trainer.should_stop = self.epoch, True
        if self.epoch < self.end:
            self._checkpoint_if_due(self.epoch, 0)

    def _check(self, step: int) -> None:
        for name, value in self.sums.items():
            if not math.isfinite(float(value)):
                raise Diverged(f"{name} became {float(value)} in step {step} of epoch {self.epoch}")

    def _checkpoint_if_due(self, epoch: int, step: int) -> None:
        stopping = self.learner.world.any(self.job.stopping)
        if not self.learner.world.writer:
            if stopping:
                self.job.stop()
            return
        if not stopping and time.monotonic() - self.saved < CHECKPOINT_SECONDS:
            return
        self._check(step)
        sums = {name: float(value) for name, value in self.sums.items()}
        _write_checkpoint(
            self.job.folder, self.learner, {"epoch": epoch, "step": step, "sums": sums, "count": self.count}
        )
        self.saved = time.monotonic()
        if stopping:
            self.job.stop()


class _Steps:
    """The step numbers of an epoch; the first epoch after a resume begins at its checkpoint's step."""

    def __init__(self, segment: _Segment) -> None:
        self.segment = segment

    def __iter__(self) -> Iterator[int]:
        # a generator, so that an iterator made only to be looked at (Lightning makes one) takes nothing away
        first, self.segment.resume_at = self.segment.resume_at, 0
        yield from range(first, self.segment.learner.steps)


def save_state(folder: Path, learner: Learner, at: dict[str, Any]) -> None:
    """Writes a state folder's three files; every file is on disk when this returns."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in learner.model.state_dict().items()}
    files = [MODEL, OPTIMIZER, STATE]
    if learner.averaged is None:
        save_file(weights, folder / MODEL)
    else:
        save_file({name: value.cpu().contiguous() for name, value in learner.averaged.items()}, folder / MODEL)
        save_file(weights, folder / WEIGHTS)
        files.append(WEIGHTS)
    save_file(_moments(learner.model, learner.optimizers), folder / OPTIMIZER)
    if learner.side is not None:
        beside = {f"model/{n}": v.detach().cpu().contiguous() for n, v in learner.side.model.state_dict().items()}
        moments = _moments(learner.side.model, [learner.side.optimizer])
        save_file(beside | {f"optimizer/{name}": value for name, value in moments.items()}, folder / SIDE)
        files.append(SIDE)
    (folder / STATE).write_text(json.dumps(at, sort_keys=True), encoding="utf-8")
    for name in files:
        with open(folder / name, "rb") as file:
            os.fsync(file.fileno())


def load_state(folder: Path, learner: Learner) -> dict[str, Any]:
    """Puts a saved state into the learner's model and optimizers; returns its `state.json`."""
    try:
        at = json.loads((folder / STATE).read_text(encoding="utf-8"))
        weights = load_weights(folder / MODEL)
        if (folder / WEIGHTS).exists():
            device = next(learner.model.parameters()).device
            learner.averaged = {name: value.to(device) for name, value in weights.items()}
            weights = load_weights(folder / WEIGHTS)
        learner.model.load_state_dict(weights)
        _put_moments(load_weights(folder / OPTIMIZER), learner.model, learner.optimizers)
        learner.side = None
        if (folder / SIDE).exists():
            learner.side = learner.make_side()
            beside = load_weights(folder / SIDE)
            learner.side.model.load_state_dict(_below("model/", beside))
            _put_moments(_below("optimizer/", beside), learner.side.model, [learner.side.optimizer])
    except (OSError, ValueError, RuntimeError) as error:
        raise StoreError(f"{folder} does not hold a training state of this model: {error}") from error
    return at


def _moments(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """What the optimizers carry from step to step, by `number/parameter/moment`."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{number}/{names[id(parameter)]}/{key}": value.detach().cpu().contiguous()
        for number, optimizer in enumerate(optimizers)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def _put_moments(moments: dict[str, Tensor], model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for number, optimizer in enumerate(optimizers):
        saved = optimizer.state_dict()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for index, parameter in enumerate(parameters):
            state = _below(f"{number}/{names[id(parameter)]}/", moments)
            if state:
                saved["state"][index] = state
        optimizer.load_state_dict(saved)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def load_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises StoreError if it is missing or damaged."""
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{file} can't be read: {error}") from error


def _write_checkpoint(folder: Path, learner: Learner, at: dict[str, Any]) -> None:
    """A new folder under `checkpoint/`, complete before it has its name; older ones go afterwards."""
    root = folder / CHECKPOINT
    final = root / f"{at['epoch']:06d}-{at['step']:09d}"
    temporary = root / f"{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    save_state(temporary, learner, at)
    shutil.rmtree(final, ignore_errors=True)
    os.rename(temporary, final)
    for other in root.iterdir():
        if other != final:
            shutil.rmtree(other, ignore_errors=True)


def _newest_checkpoint(folder: Path) -> Path | None:
    root = folder / CHECKPOINT
    complete = sorted(p for p in root.iterdir() if p.suffix != ".tmp") if root.is_dir() else []
    return complete[-1] if complete else None


def _trainer(device: str, precision: str, epochs: int, world: World) -> lightning.Trainer:
    """A Lightning trainer that only loops: no logger, checkpoints, bars, summary or cluster detection."""
    kind, _, index = device.partition(":")
    together: dict[str, Any] = {"plugins": [LightningEnvironment()]}
    if world.size > 1:
        together = {"strategy": Together(world, torch.device(device)), "num_nodes": world.size}
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
def threads(count: int) -> Iterator[None]:
    """Runs with `count` intra-op threads: other counts give other bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
