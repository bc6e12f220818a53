"""The slot graph: how much each slot depends on each other one, and which slots count as neighbours.

A graph is A (B,S,S): A[s, j] is how much slot s depends on slot j. For every source a row sums to 1, the slot itself
included, so that equal dependence on all slots is 1/S and one threshold fits all sources. (Only the published reading of
attention, frames=mean, has a smaller scale.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ctt.models.model_settings import GraphSettings


class AttentionReader:
    """Collects attention during a forward pass; `graph()` computes A from the queries of frame t=H."""

    def __init__(self, settings: GraphSettings, layers: int, first_row: int, slots: int, last_rows_from: int) -> None:
        """first_row: token H·S of a full layer; last_rows_from: the index of that token among the last layer's rows."""
        self.settings, self.layers, self.slots = settings, layers, slots
        self.first_row, self.last_rows_from = first_row, last_rows_from
        self.means: list[Tensor] = []

    def __call__(self, layer: int, before: Tensor, after: Tensor) -> None:
        last = layer == self.layers - 1
        if not last and self.settings.source == "attention":
            return
        weights = (before if self.settings.dropout == "before" else after).detach()
        if last:
            weights = weights[:, :, self.last_rows_from : self.last_rows_from + self.slots]
        self.means.append(weights.mean(1))

    def graph(self) -> Tensor:
        """A (B,S,S)."""
        rows = self.means[-1]  # (B,S,T·S)
        if self.settings.source == "rollout_attention":
            rows = _compose(rows, self.means[:-1], self.first_row)
        by_frame = torch.unflatten(rows, -1, (-1, self.slots))
        return by_frame.mean(2) if self.settings.frames == "mean" else by_frame.sum(2)


def _compose(rows: Tensor, below: list[Tensor], first_row: int) -> Tensor:
    """Multiplies the last layer's rows (B,S,N) by the layers below, each half attention and half residual path."""
    own = torch.zeros_like(rows)
    slots = torch.arange(rows.shape[1], device=rows.device)
    own[:, slots, first_row + slots] = 1
    rows = (rows + own) / 2
    for attention in reversed(below):
        rows = (rows @ attention + rows) / 2
    return rows


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
    return (total(graph.sum(0, keepdim=True)) / total(graph.new_tensor(float(len(graph))))).expand_as(graph)


def indifferent_to(graph: Tensor, slot: Tensor, threshold: float) -> Tensor:
    """Bool (B,S): the slots j ≠ slot that do not depend on it, A[j, slot] < threshold."""
    column = graph.gather(2, slot[:, None, None].expand(-1, graph.shape[1], 1)).squeeze(2)
    return (column < threshold).scatter(1, slot[:, None], False)


def irrelevant_for(graph: Tensor, slot: Tensor, threshold: float) -> Tensor:
    """Bool (B,S): the slots j ≠ slot that it does not depend on, A[slot, j] < threshold."""
    row = graph.gather(1, slot[:, None, None].expand(-1, 1, graph.shape[2])).squeeze(1)
    return (row < threshold).scatter(1, slot[:, None], False)
