"""The random choices of a training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ctt.models.graphs.slot_graph import draw_any, draw_unmasked


@dataclass(frozen=True)
class Draws:
    """masked bool (B,S); removed (B,): the slot removed for invariance; target (B,): the slot predicted for sufficiency."""

    masked: Tensor
    removed: Tensor | None = None
    target: Tensor | None = None

    def part(self, part: slice) -> Draws:
        """The draws of the windows `part` of the batch."""
        removed, target = (None if x is None else x[part] for x in (self.removed, self.target))
        return Draws(self.masked[part], removed, target)


def draw_slots(masked: Tensor, invariance: bool, sufficiency: bool, scope: str, rng: Callable[[str], torch.Generator]) -> Draws:
    """Draws what the active losses need, each from its own generator `rng(purpose)`; an inactive loss draws nothing."""
    removed = draw_unmasked(masked, scope, rng("removed slot")) if invariance else None
    target = draw_any(len(masked), masked.shape[1], scope, rng("target slot")) if sufficiency else None
    return Draws(masked, removed, target)
