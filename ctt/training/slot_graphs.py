"""Slot graphs: their networks, the true interactions, and the graph that a trained state has of any window."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ctt.data.dataset import Split
from ctt.data.synthetic.interactions import Interactions
from ctt.data.windows import Windows
from ctt.models.graphs.attention_reader import AttentionReader
from ctt.models.graphs.graph_source import GraphInputs, graph_source
from ctt.models.model_settings import GraphSettings, PredictorSettings
from ctt.models.predictor import Predictor
from ctt.training.learner import SideNetwork
from ctt.training.seeds import derive, generator
from ctt.training.state import SIDE, load_weights


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


def side_of(
    folder: Path, settings: PredictorSettings, graph: GraphSettings, width: int, device: torch.device
) -> SideNetwork | None:
    """The network of a state folder; None if the state has none."""
    if not (folder / SIDE).exists():
        return None
    side = make_side(settings, graph, width, 0, device)
    prefix = "model/"
    tensors = load_weights(folder / SIDE)
    side.model.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    return side


@dataclass(frozen=True)
class SlotGraph:
    """A slot graph of a run: how it is made, and from which entry on a slot depends on another."""

    settings: GraphSettings
    threshold: float


class StateGraphs:
    """The slot graph of a trained state, as its source makes it: per window, without masks and dropout."""

    def __init__(self, predictor: Predictor, graph: GraphSettings, side: SideNetwork | None) -> None:
        self.predictor, self.graph, self.side = predictor, graph, side
        self.source = graph_source(graph.source)

    @property
    def history(self) -> int:
        """Frames of a window."""
        return self.predictor.history

    @property
    def device(self) -> torch.device:
        """Where windows must be."""
        return next(self.predictor.parameters()).device

    @torch.no_grad()
    def of(self, history: Tensor) -> Tensor:
        """A (B,S,S) of windows (B,H,S,D), on their device."""
        slots = history.shape[2]
        if self.source.reads_attention:
            layers = len(self.predictor.transformer.layers)
            reader = AttentionReader(self.graph, layers, self.predictor.history * slots, slots, 0)
            self.predictor(history, rows=self.predictor.future_rows(slots), read=reader)
            return reader.graph()
        nothing = torch.zeros(history.shape[0], slots, dtype=torch.bool, device=history.device)
        given = GraphInputs(
            predictor=self.predictor,
            settings=self.graph,
            history=history,
            masked=nothing,
            generator=lambda: generator(0, f"read {self.source.purpose}", 0),
            network=None if self.side is None else self.side.model,
        )
        with torch.enable_grad():
            return self.source.graph(given).detach()


class TrueInteractions:
    """The true interactions of a split's windows. Raises DataError if they are unknown."""

    def __init__(self, split: Split, windows: Windows) -> None:
        self._interactions = Interactions(split.truth, windows)

    def touching(self, index: np.ndarray) -> Tensor:
        """Whether the objects of two slots touch, bool (B,S,S), in the windows with these numbers."""
        return torch.from_numpy(self._interactions.among_slots(index))
