"""Learner: what a segment trains (`ctt.training.trainer`)."""

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
    """A network beside the model, with an optimizer of its own. Training carries it along; the model never meets it."""

    model: nn.Module
    optimizer: torch.optim.Optimizer


class Learner:
    """What a segment trains. Subclasses set the first three, the model on its device, and write `gradients`."""

    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    steps: int
    world: ProcessGroup = ALONE
    """The processes that share its batches: `gradients` then leaves this one's part of sums over all."""
    precision: str = "fp32"
    average: float | None = None
    """Decay per step of an exponential moving average of the weights, which validation and readers then use."""
    averaged: dict[str, Tensor] | None = None
    """That average, by parameter name; the trainer keeps it."""
    side: SideNetwork | None = None
    """A side network, from when the learner has made it; the learner trains it, the trainer saves and loads it."""

    def make_side(self) -> SideNetwork:
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
