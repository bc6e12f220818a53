"""Sufficiency (Axiom 4): a slot's neighbours suffice to predict it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ctt.models.losses.loss_term import LossTerm, MaskedView, ViewInputs

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor


class Sufficiency(LossTerm):
    """The slots that a drawn slot does not depend on, A[target, j] < threshold, are hidden; it is predicted from the others."""

    name = "sufficiency"
    flag = "ctt_suf_weight"
    help = "weight of the sufficiency loss (Axiom 4); 0: not computed"
    purpose = "target slot"
    always_diagnosed = True

    def draw(self, masked: Tensor, scope: str, generator: torch.Generator) -> Tensor | None:
        """The predicted slot (B,), one of all."""
        from ctt.models.graphs.slot_graph import draw_any

        return draw_any(len(masked), masked.shape[1], scope, generator)

    def view(self, given: ViewInputs) -> MaskedView | None:
        from ctt.models.graphs.slot_graph import irrelevant_for

        if (target := given.drawn) is None:
            return None
        irrelevant = irrelevant_for(given.graph, target, given.threshold)
        index = target[:, None, None].expand(-1, given.counted.shape[1], 1)
        counted = given.counted.gather(2, index).squeeze(2)
        return MaskedView(irrelevant, given.normalised(irrelevant.any(1, keepdim=True) * counted), target)

    def value(self, view: MaskedView, predicted: Tensor, clean: Tensor, truth: Tensor, options: Mapping[str, Any]) -> Tensor:
        assert view.drawn is not None
        error = (predicted - truth).square().mean(-1)  # (b,P,S)
        target = view.drawn[:, None, None].expand(-1, error.shape[1], 1)
        return (error.gather(2, target).squeeze(2) * view.weight).sum()

    def zero(self, near: np.ndarray, masked: np.ndarray) -> float | None:
        """The loss is 0 where the drawn slot, one of all, depends on every other one."""
        import numpy as np

        others = (~near & ~np.eye(near.shape[-1], dtype=bool)).any(2)  # (N,S): row k has a non-neighbour
        return float(np.mean(~others))


TERM = Sufficiency()
