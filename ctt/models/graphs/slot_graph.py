"""The slot graph: how much each slot depends on each other one, and which slots count as neighbours.

A graph is A (B,S,S): A[s, j] is how much slot s depends on slot j. For every source a row sums to 1, the slot itself
included, so that equal dependence on all slots is 1/S and one threshold fits all sources. (Only the published reading of
attention, frames=mean, has a smaller scale.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def row_shares(influence: Tensor) -> Tensor:
    """A from influences ≥ 0 (B,S,S): each one's share of its row; in a row of zeros the slot depends on itself alone."""
    total = influence.sum(-1, keepdim=True)
    own = torch.eye(influence.shape[-1], dtype=influence.dtype, device=influence.device)
    return torch.where(total > 0, influence / total.clamp(min=torch.finfo(influence.dtype).tiny), own)


def touching(contact: Tensor) -> Tensor:
    """A from true interactions, bool (B,S,S): a slot depends equally on itself and on each slot it touches."""
    own = torch.eye(contact.shape[-1], dtype=torch.bool, device=contact.device)
    return row_shares((contact | own).float())


def draw_unmasked(masked: Tensor, scope: str, generator: torch.Generator) -> Tensor | None:
    """One slot (B,) for each window, uniform among those not masked (B,S); with scope=batch the same for all windows.
    None if all are masked."""
    if bool(masked[0].all()):
        return None
    if scope == "batch":
        free = (~masked[0]).nonzero().flatten()
        return free[torch.randint(len(free), (1,), generator=generator)].expand(len(masked))
    return torch.rand(masked.shape, generator=generator).masked_fill(masked.cpu(), -1).argmax(1)


def draw_any(batch: int, slots: int, scope: str, generator: torch.Generator) -> Tensor:
    """One slot (B,) for each window, uniform among all; with scope=batch the same for all windows."""
    if scope == "batch":
        return torch.randint(slots, (1,), generator=generator).expand(batch)
    return torch.randint(slots, (batch,), generator=generator)


Total = Callable[[Tensor], Tensor]  # sums a tensor over the processes that share a batch


def scoped(graph: Tensor, scope: str, total: Total | None = None) -> Tensor:
    """The graph that each window is judged by: its own, or the mean of the batch (`total`: shared by several processes)."""
    if scope != "batch":
        return graph
    if total is None:
        return graph.mean(0, keepdim=True).expand_as(graph)
    return (total(graph.sum(0, keepdim=True)) / total(graph.new_full((), float(len(graph))))).expand_as(graph)


def indifferent_to(graph: Tensor, slot: Tensor, threshold: float) -> Tensor:
    """Bool (B,S): the slots j ≠ slot that do not depend on it, A[j, slot] < threshold."""
    column = graph.gather(2, slot[:, None, None].expand(-1, graph.shape[1], 1)).squeeze(2)
    return (column < threshold).scatter(1, slot[:, None], False)


def irrelevant_for(graph: Tensor, slot: Tensor, threshold: float) -> Tensor:
    """Bool (B,S): the slots j ≠ slot that it does not depend on, A[slot, j] < threshold."""
    row = graph.gather(1, slot[:, None, None].expand(-1, 1, graph.shape[2])).squeeze(1)
    return (row < threshold).scatter(1, slot[:, None], False)
