"""The slot graph of source=rollout_attention: attention composed over all layers (Abnar and Zuidema, arXiv 2005.00928)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctt.models.graphs.graph_source import GraphSource

if TYPE_CHECKING:
    from torch import Tensor


class RolloutAttentionSource(GraphSource):
    """The attention of all layers, multiplied, each half attention and half residual path."""

    name = "rollout_attention"
    help = "attention composed over all layers with the residual path (Abnar and Zuidema, arXiv 2005.00928)"
    reads_attention = True
    always_diagnosed = True

    def wants(self, layer: int, layers: int) -> bool:
        return True

    def rows(self, last: Tensor, below: list[Tensor], first_row: int) -> Tensor:
        """Multiplies the last layer's rows (B,S,N) by the layers below."""
        import torch

        own = torch.zeros_like(last)
        slots = torch.arange(last.shape[1], device=last.device)
        own[:, slots, first_row + slots] = 1
        rows = (last + own) / 2
        for attention in reversed(below):
            rows = (rows @ attention + rows) / 2
        return rows


SOURCE = RolloutAttentionSource()
