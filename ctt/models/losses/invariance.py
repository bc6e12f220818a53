"""Invariance (Axiom 6): removing a slot does not change the prediction of slots that do not depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ctt.models.losses.loss_term import LossTerm, MaskedView, ViewInputs

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor


class Invariance(LossTerm):
    """A drawn slot is hidden too; the slots that do not depend on it, A[j, removed] < threshold, are to stay as they were."""

    name = "invariance"
    flag = "ctt_inv_weight"
    help = "weight of the invariance loss (Axiom 6); 0: not computed"
    purpose = "removed slot"
    compares = True
    always_diagnosed = True
    digits = 6

    def draw(self, masked: Tensor, scope: str, generator: torch.Generator) -> Tensor | None:
        """The removed slot (B,), one of those that are not masked; None if all are."""
        from ctt.models.graphs.slot_graph import draw_unmasked

        return draw_unmasked(masked, scope, generator)

    def view(self, given: ViewInputs) -> MaskedView | None:
        from ctt.models.graphs.slot_graph import indifferent_to

        if (removed := given.drawn) is None:
            return None
        unmoved = indifferent_to(given.graph, removed, given.threshold) & ~given.masked
        hidden = given.masked.scatter(1, removed[:, None], True)
        return MaskedView(hidden, given.normalised(unmoved.to(given.graph.dtype)), removed)

    def value(self, view: MaskedView, predicted: Tensor, clean: Tensor, truth: Tensor, options: Mapping[str, Any]) -> Tensor:
        moved = (predicted - clean).square().mean((1, 3))  # (b,S)
        return (moved * view.weight).sum()

    def zero(self, near: np.ndarray, masked: np.ndarray) -> float | None:
        """Drawn slots are those that are not masked; the loss is 0 where every unmasked slot depends on the drawn one."""
        import numpy as np

        unmasked = ~masked
        independent = (~near & ~np.eye(near.shape[-1], dtype=bool) & unmasked[:, :, None]).any(1)  # (N,S): for column i
        drawn = independent[unmasked]
        return float((~drawn).mean()) if drawn.size else 1.0


TERM = Invariance()
