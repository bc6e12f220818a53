"""The slot graphs that are not read from the prediction pass: jacobian, learned, oracle."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ctt.data.dataset import Split
from ctt.data.synthetic.interactions import Interactions
from ctt.data.windows import Windows
from ctt.models.graphs.jacobian import directions, jacobian_graph
from ctt.models.graphs.learned import Influence
from ctt.models.graphs.slot_graph import row_shares, touching
from ctt.models.model_settings import GraphSettings, PredictorSettings
from ctt.models.predictor import Predictor
from ctt.training.learner import SideNetwork
from ctt.training.seeds import derive


def make_influence(settings: PredictorSettings, graph: GraphSettings, width: int, seed: int, device: torch.device) -> SideNetwork:
    """The network of source=learned with initial weights that depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "influence network"))
        learned = graph.learned
        shape = (settings.history_size, settings.num_preds, width, learned.width, learned.projected)
        model = Influence(*shape).to(device)
    return SideNetwork(model, torch.optim.AdamW(model.parameters(), lr=learned.learning_rate, weight_decay=0.0))


def learn_influence(side: SideNetwork, price: float, window: Tensor) -> dict[str, Tensor]:
    """One optimiser step of the network on windows (B,T,S,D).

    Returns the values to log: its error relative to that of unchanged slots, and the mean part of a slot owed to others.
    """
    model = side.model
    assert isinstance(model, Influence)
    with torch.autocast(window.device.type, enabled=False):
        terms = model.terms(window.detach().float())
        side.optimizer.zero_grad(set_to_none=True)
        (terms["error"] + terms["surprise"] + price * terms["others"]).backward()
    side.optimizer.step()
    return {"influence_error": terms["error"].detach(), "influence_others": terms["others"].detach()}


def learned_graph(side: SideNetwork, history: Tensor) -> Tensor:
    """A (B,S,S) of history (B,H,S,D): each slot's share in explaining what another slot's own past does not predict of it."""
    model = side.model
    assert isinstance(model, Influence)
    with torch.no_grad(), torch.autocast(history.device.type, enabled=False):
        return row_shares(model.parts(history.float()))


def jacobian_of(
    predictor: Predictor,
    graph: GraphSettings,
    history: Tensor,
    masked: Tensor | None,
    rng: torch.Generator,
    micro_batch: int | None = None,
) -> Tensor:
    """A (B,S,S) along directions drawn from `rng`; `masked` may be on another device."""
    chosen = directions(graph.projections, predictor.future * history.shape[-1], rng)
    hidden = None if masked is None else masked.to(history.device)
    return jacobian_graph(predictor, history, hidden, chosen, micro_batch)


class Oracle:
    """The true interactions of a split's windows. Raises DataError if they are unknown."""

    def __init__(self, split: Split, windows: Windows) -> None:
        self._interactions = Interactions(split.truth, windows)

    def graph(self, index: np.ndarray) -> Tensor:
        """A (B,S,S) of the windows with these numbers."""
        return touching(torch.from_numpy(self._interactions.among_slots(index)))
