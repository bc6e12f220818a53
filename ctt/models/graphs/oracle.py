"""The slot graph of source=oracle: the true interactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctt.models.graphs.graph_source import GraphInputs, GraphSource

if TYPE_CHECKING:
    from torch import Tensor


class OracleSource(GraphSource):
    """A slot depends equally on itself and on each slot whose object it touches within the window."""

    name = "oracle"
    help = "the slots whose objects touch within the window (known for synthetic data only)"
    needs_truth = True
    is_truth = True
    always_diagnosed = True

    def graph(self, given: GraphInputs) -> Tensor:
        from ctt.models.graphs.slot_graph import touching

        assert given.touching is not None
        return touching(given.touching())


SOURCE = OracleSource()
