"""The objective of a training step and the windows that it is computed on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ctt.models.draws import Draws
from ctt.models.model_settings import GraphSettings


@dataclass(frozen=True)
class Objective:
    """total = prediction + inv_weight · invariance + suf_weight · sufficiency; a weight of 0 leaves its loss out."""

    graph: GraphSettings
    inv_weight: float = 0.0
    suf_weight: float = 0.0
    threshold: float = 0.15
    share_dropout: bool = True

    @property
    def has_views(self) -> bool:
        """Whether a CTT loss acts, so that masked views are computed."""
        return self.inv_weight + self.suf_weight > 0


@dataclass(frozen=True)
class StepBatch:
    """The windows of a step, slots (B,T,S,D), with their random choices.

    visible bool (B,T,S): the slots that count in the prediction and sufficiency losses (None: all). slot_graph (B,S,S):
    given where it is not read from the prediction pass.
    """

    slots: Tensor
    draws: Draws
    visible: Tensor | None = None
    slot_graph: Tensor | None = None
