"""The slot graph of source=jacobian: how strongly each predicted slot changes with each given slot.

The strength of j on s is the Frobenius norm of ∂ (all predicted frames of s) / ∂ (all given frames of j), without
dropout, under the step's slot mask. It is estimated without forming that matrix: for k orthonormal directions q in the
n = P·D dimensions of a predicted slot, n/k · Σ |qᵀJ|² has the expectation |J|² (Hutchinson's estimator on JᵀJ, with the
orthogonal directions of Yu et al., arXiv 1610.09072, which make it exact at k = n). Each qᵀJ is one backward pass without
weight gradients; those of all S slots are computed as one batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ctt.core.errors import SettingError
from ctt.core.settings import setting
from ctt.models.graphs.graph_source import GraphInputs, GraphSource

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ctt.models.predictor import Predictor


class JacobianSource(GraphSource):
    """The jacobian along random directions, drawn anew in each step."""

    name = "jacobian"
    help = "how strongly the predicted frames of a slot change with the given ones of another"
    options = {
        "projections": setting(
            1,
            "random directions of a predicted slot from whose derivatives the jacobian is estimated; each costs about as "
            "much as a forward pass for every slot; with as many as a predicted slot has dimensions it is exact",
            minimum=1,
            old=1,
        )
    }
    purpose = "projections"
    always_diagnosed = True

    def check(self, settings: Any, numbers: int) -> None:
        if settings.projections > numbers:
            raise SettingError(
                f"world_model.graph.projections must be at most {numbers}, the numbers of a predicted slot, "
                f"got {settings.projections}"
            )

    def draw(self, settings: Any, numbers: int, generator: Callable[[], torch.Generator]) -> Tensor:
        return directions(settings.projections, numbers, generator())

    def graph(self, given: GraphInputs) -> Tensor:
        chosen = given.drawn
        if chosen is None:
            chosen = self.draw(given.settings, given.predictor.future * given.history.shape[-1], given.generator)
        hidden = None if given.masked is None else given.masked.to(given.history.device)
        return jacobian_graph(given.predictor, given.history, hidden, chosen, given.micro_batch)


def directions(count: int, numbers: int, generator: torch.Generator) -> Tensor:
    """`count` orthonormal directions (count, numbers) float64, uniformly drawn. Raises ValueError if count > numbers."""
    import torch

    if not 1 <= count <= numbers:
        raise ValueError(f"world_model.graph.projections must lie in 1..{numbers}, the dimensions of a predicted slot; got {count}")
    drawn, upper = torch.linalg.qr(torch.randn(numbers, count, generator=generator, dtype=torch.float64))
    chosen: Tensor = (drawn * upper.diagonal().sign()).T
    return chosen


def jacobian_graph(
    model: Predictor, history: Tensor, masked: Tensor | None, chosen: Tensor, micro_batch: int | None = None
) -> Tensor:
    """A (B,S,S) of history (B,H,S,D) with the slots `masked` bool (B,S), along the directions `chosen` (k, P·D)."""
    import torch

    from ctt.models.graphs.slot_graph import row_shares

    size = micro_batch or len(history)
    hidden = [None] * len(history) if masked is None else torch.split(masked, size)
    parts = zip(torch.split(history, size), hidden, strict=False)
    return row_shares(torch.cat([_strengths(model, part, mask, chosen.to(part)) for part, mask in parts]))


def _strengths(model: Predictor, history: Tensor, masked: Tensor | None, chosen: Tensor) -> Tensor:
    """Norms |qᵀJ| over the directions q, (b,S,S), up to a factor that is the same for all of them."""
    import torch

    batch, _, slots, width = history.shape
    history = history.detach().requires_grad_()
    one_at_a_time = torch.eye(slots, dtype=history.dtype, device=history.device)[:, None, :, None]
    with torch.enable_grad():
        # model.forward and `read`: compiled code and fused attention can't be differentiated for a batch of directions
        tokens = model.forward(history, masked, rows=model.future_rows(slots), read=lambda *_: None)
        ahead = torch.unflatten(tokens.to(history.dtype), 1, (model.future, slots))
        squares = history.new_zeros(slots, batch, slots)
        for number, direction in enumerate(chosen):
            along = direction.view(model.future, 1, width) * one_at_a_time
            (found,) = torch.autograd.grad(
                ahead,
                history,
                along[:, None].expand(-1, batch, -1, -1, -1),  # (S,b,P,S,D): one slot at a time
                retain_graph=number + 1 < len(chosen),
                is_grads_batched=True,
            )
            squares += found.square().sum((2, 4))
    return squares.transpose(0, 1).sqrt()


SOURCE = JacobianSource()
