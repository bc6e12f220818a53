"""AttentionReader: reads a slot graph off a forward pass."""

from __future__ import annotations

import torch
from torch import Tensor

from ctt.models.graphs.graph_source import graph_source
from ctt.models.model_settings import GraphSettings


class AttentionReader:
    """Collects attention during a forward pass; `graph()` computes A from the queries of frame t=H."""

    def __init__(self, settings: GraphSettings, layers: int, first_row: int, slots: int, last_rows_from: int) -> None:
        """first_row: token H·S of a full layer; last_rows_from: the index of that token among the last layer's rows."""
        self.settings, self.layers, self.slots = settings, layers, slots
        self.first_row, self.last_rows_from = first_row, last_rows_from
        self.source = graph_source(settings.source)
        self.means: list[Tensor] = []

    def __call__(self, layer: int, before: Tensor, after: Tensor) -> None:
        last = layer == self.layers - 1
        if not last and not self.source.wants(layer, self.layers):
            return
        weights = (before if self.settings.dropout == "before" else after).detach()
        if last:
            weights = weights[:, :, self.last_rows_from : self.last_rows_from + self.slots]
        self.means.append(self.source.heads(weights))

    def graph(self) -> Tensor:
        """A (B,S,S)."""
        rows = self.source.rows(self.means[-1], self.means[:-1], self.first_row)  # (B,S,T·S)
        by_frame = torch.unflatten(rows, -1, (-1, self.slots))
        return by_frame.mean(2) if self.settings.frames == "mean" else by_frame.sum(2)
