"""The slot graph of source=learned: from a network that finds which slots explain the error of predicting another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctt.core.settings import Settings, setting
from ctt.models.graphs.graph_source import GraphInputs, GraphSource

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass
class LearnedSettings(Settings):
    """The network of source=learned and its training."""

    width: int = setting(64, "hidden width; a larger one discriminates better and makes every step slower", minimum=1)
    projected: int = setting(16, "dimensions of the linear projection of each slot that a pair of slots is judged by", minimum=1)
    price: float = setting(
        0.05,
        "penalty on the parts of other slots, in nats of a slot's log-likelihood for a part as large as the mean squared error",
        minimum=0,
    )
    learning_rate: float = setting(
        0.004, "learning rate of its AdamW: high, since the losses use its graph from its first step on", above=0
    )
    windows: int = setting(64, "windows of its batch in each step, drawn from all windows", minimum=1, maximum=16384)


class LearnedSource(GraphSource):
    """`ctt.models.graphs.influence`: each slot's share in explaining what another slot's own past does not predict of it."""

    name = "learned"
    help = (
        "a small separate network, trained from the start epoch on, that finds, from slots alone, which slots explain the error "
        "of predicting a slot from its own past"
    )
    options = {"learned": setting(LearnedSettings, "the network of source=learned, which is trained along with the predictor")}
    network_purpose = "influence"
    always_diagnosed = True

    def graph(self, given: GraphInputs) -> Tensor:
        import torch

        from ctt.models.graphs.influence import Influence
        from ctt.models.graphs.slot_graph import row_shares

        assert isinstance(given.network, Influence)
        with torch.no_grad(), torch.autocast(given.history.device.type, enabled=False):
            return row_shares(given.network.parts(given.history.float()))

    def make_network(self, settings: Any, history: int, future: int, width: int) -> nn.Module:
        from ctt.models.graphs.influence import Influence

        return Influence(history, future, width, settings.learned.width, settings.learned.projected)

    def optimizer(self, settings: Any, network: nn.Module) -> torch.optim.Optimizer:
        import torch

        return torch.optim.AdamW(network.parameters(), lr=settings.learned.learning_rate, weight_decay=0.0)

    def windows(self, settings: Any) -> int:
        count: int = settings.learned.windows
        return count

    def loss(self, settings: Any, network: nn.Module, window: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """To log: the error relative to that of unchanged slots, and the mean part of a slot owed to others."""
        from ctt.models.graphs.influence import Influence

        assert isinstance(network, Influence)
        terms = network.terms(window)
        loss = terms["error"] + terms["surprise"] + settings.learned.price * terms["others"]
        return loss, {"influence_error": terms["error"].detach(), "influence_others": terms["others"].detach()}


SOURCE = LearnedSource()
