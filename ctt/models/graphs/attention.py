"""The slot graph of source=attention: that of the last layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctt.models.graphs.graph_source import GraphSource

if TYPE_CHECKING:
    from torch import Tensor


class AttentionSource(GraphSource):
    """The last layer's attention, the mean of its heads."""

    name = "attention"
    help = "the last layer's attention"
    reads_attention = True
    always_diagnosed = True

    def rows(self, last: Tensor, below: list[Tensor], first_row: int) -> Tensor:
        return last


SOURCE = AttentionSource()
