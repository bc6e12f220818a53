"""Learner: what `ctt.training.trainer` trains."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ctt.core.process_group import ALONE, ProcessGroup


@dataclasses.dataclass
class SideNetwork:
    """A network trained in addition to the model, with its own optimizer. It never affects the model."""

    model: nn.Module
    optimizer: torch.optim.Optimizer


class Learner:
    """What a segment trains. Subclasses set `model` (on its device), `optimizers` and `steps`, and implement `gradients`."""

    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    steps: int
    group: ProcessGroup = ALONE
    """The processes that share the batches: `gradients` then leaves this process's part of the sums over all of them."""
    precision: str = "fp32"
    average: float | None = None
    """Decay per step of an exponential moving average of the weights, which validation and later stages then use."""
    averaged: dict[str, Tensor] | None = None
    """That average, by parameter name; the trainer updates it."""
    side: SideNetwork | None = None
    """The side network, once the learner has made it; the learner trains it, the trainer saves and loads it."""

    def make_side(self) -> SideNetwork:
        """A new side network with its initial weights."""
        raise NotImplementedError

    def update_average(self, done: int) -> None:
        """Updates the average after step number `done` (from 0). Its decay grows from 0.1, so early weights lose influence."""
        if self.average is None:
            return
        decay = min(self.average, (1 + done) / (10 + done))
        weights = {name: value.detach() for name, value in self.model.state_dict().items()}
        if self.averaged is None:
            self.averaged = {name: value.clone() for name, value in weights.items()}
        for name, value in weights.items():
            self.averaged[name].lerp_(value, 1 - decay)

    @contextlib.contextmanager
    def with_average(self) -> Iterator[None]:
        """In this context the model has the weights that later stages load: the averaged ones, where there is an average."""
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
        Training stops with Diverged if one of them is not finite.
        """
        raise NotImplementedError

    def schedule(self, epoch: int, step: int) -> None:
        """Sets the learning rates for this step; by default they are constant."""

    def rates(self) -> dict[str, float]:
        """The learning rates of the last step, logged with the epoch's means: Muon's, and that of the other optimizer."""
        found = {}
        for optimizer in self.optimizers:
            name = "muon_learning_rate" if isinstance(optimizer, torch.optim.Muon) else "learning_rate"
            found[name] = float(optimizer.param_groups[0]["lr"])
        return found

    def should_stop(self, folder: Path) -> bool:
        """Whether to stop before the last epoch; called after each epoch's metrics have been logged in `folder`."""
        return False

    def validate(self, epoch: int) -> dict[str, float]:
        """Metrics logged with the epoch's means; called after its last step with the model in eval mode."""
        return {}

    def warning(self, epoch: int, validation: dict[str, float]) -> str | None:
        """What is wrong with a training whose epoch `epoch` has ended with these metrics of `validate`; None: nothing."""
        return None
