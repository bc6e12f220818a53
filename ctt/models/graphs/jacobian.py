"""The slot graph of source=jacobian: how strongly each predicted slot changes with each given slot.

The strength of j on s is the Frobenius norm of ∂ (all predicted frames of s) / ∂ (all given frames of j), without
dropout, under the step's slot mask. It is estimated without forming that matrix: for k orthonormal directions q in the
n = P·D dimensions of a predicted slot, n/k · Σ |qᵀJ|² has the expectation |J|² (Hutchinson's estimator on JᵀJ, with the
orthogonal directions of Yu et al., arXiv 1610.09072, which make it exact at k = n). Each qᵀJ is one backward pass without
weight gradients; those of all S slots are computed as one batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ctt.models.graphs.slot_graph import row_shares
from ctt.models.predictor import Predictor


def directions(count: int, numbers: int, generator: torch.Generator) -> Tensor:
    """`count` orthonormal directions (count, numbers) float64, uniformly drawn. Raises ValueError if count > numbers."""
    if not 1 <= count <= numbers:
        raise ValueError(f"world_model.graph.projections must lie in 1..{numbers}, the dimensions of a predicted slot; got {count}")
    drawn, upper = torch.linalg.qr(torch.randn(numbers, count, generator=generator, dtype=torch.float64))
    chosen: Tensor = (drawn * upper.diagonal().sign()).T
    return chosen


def jacobian_graph(
    model: Predictor, history: Tensor, masked: Tensor | None, chosen: Tensor, micro_batch: int | None = None
) -> Tensor:
    """A (B,S,S) of history (B,H,S,D) with the slots `masked` bool (B,S), along the directions `chosen` (k, P·D)."""
    size = micro_batch or len(history)
    hidden = [None] * len(history) if masked is None else torch.split(masked, size)
    parts = zip(torch.split(history, size), hidden, strict=False)
    return row_shares(torch.cat([_strengths(model, part, mask, chosen.to(part)) for part, mask in parts]))


def _strengths(model: Predictor, history: Tensor, masked: Tensor | None, chosen: Tensor) -> Tensor:
    """Norms |qᵀJ| over the directions q, (b,S,S), up to a factor that is the same for all of them."""
    batch, _, slots, width = history.shape
    history = history.detach().requires_grad_()
    with torch.enable_grad():
        # model.forward and `read`: compiled code and fused attention can't be differentiated for a batch of directions
        tokens = model.forward(history, masked, rows=model.future_rows(slots), read=lambda *_: None)
        ahead = torch.unflatten(tokens.to(history.dtype), 1, (model.future, slots))
        squares = history.new_zeros(slots, batch, slots)
        for number, direction in enumerate(chosen):
            along = direction.view(model.future, 1, width) * torch.eye(slots).to(history)[:, None, :, None]
            (found,) = torch.autograd.grad(
                ahead,
                history,
                along[:, None].expand(-1, batch, -1, -1, -1),  # (S,b,P,S,D): one slot at a time
                retain_graph=number + 1 < len(chosen),
                is_grads_batched=True,
            )
            squares += found.square().sum((2, 4))
    return squares.transpose(0, 1).sqrt()
