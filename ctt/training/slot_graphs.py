"""The slot graphs that are not read from the prediction pass: their networks, and the true interactions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ctt.data.dataset import Split
from ctt.data.synthetic.interactions import Interactions
from ctt.data.windows import Windows
from ctt.models.graphs.graph_source import graph_source
from ctt.models.model_settings import GraphSettings, PredictorSettings
from ctt.training.learner import SideNetwork
from ctt.training.seeds import derive


def make_side(settings: PredictorSettings, graph: GraphSettings, width: int, seed: int, device: torch.device) -> SideNetwork:
    """The network of the graph's source with initial weights that depend on the seed alone."""
    source = graph_source(graph.source)
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, f"{source.network_purpose} network"))
        network = source.make_network(graph, settings.history_size, settings.num_preds, width).to(device)
    return SideNetwork(network, source.optimizer(graph, network))


def learn_side(side: SideNetwork, graph: GraphSettings, window: Tensor) -> dict[str, Tensor]:
    """One optimiser step of the network on windows (B,T,S,D); returns the values to log."""
    with torch.autocast(window.device.type, enabled=False):
        loss, logged = graph_source(graph.source).loss(graph, side.model, window.detach().float())
        side.optimizer.zero_grad(set_to_none=True)
        loss.backward()
    side.optimizer.step()
    return logged


class TrueInteractions:
    """The true interactions of a split's windows. Raises DataError if they are unknown."""

    def __init__(self, split: Split, windows: Windows) -> None:
        self._interactions = Interactions(split.truth, windows)

    def touching(self, index: np.ndarray) -> Tensor:
        """Whether the objects of two slots touch, bool (B,S,S), in the windows with these numbers."""
        return torch.from_numpy(self._interactions.among_slots(index))
