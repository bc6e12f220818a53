"""The objective of a training step and the windows that it is computed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ctt.models.draws import Draws
from ctt.models.losses.loss_term import LossTerm, acting
from ctt.models.model_settings import GraphSettings


@dataclass(frozen=True)
class Objective:
    """total = prediction + Σ weight · term; weights: by name of a term, 0 leaves it out. options: values of terms' settings."""

    graph: GraphSettings
    weights: Mapping[str, float] = field(default_factory=dict)
    threshold: float = 0.15
    share_dropout: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def acting(self) -> list[tuple[LossTerm, float]]:
        """The terms with a weight, and it; without any, no masked view is computed."""
        return acting(self.weights)


@dataclass(frozen=True)
class StepBatch:
    """The windows of a step, slots (B,T,S,D), with their random choices.

    visible bool (B,T,S): the slots that count in losses against the truth (None: all). slot_graph (B,S,S): given where it
    is not read from the prediction pass.
    """

    slots: Tensor
    draws: Draws
    visible: Tensor | None = None
    slot_graph: Tensor | None = None
