"""What a source of the slot graph costs: a training step with both losses, optimiser included, over that of attention."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from ctt.models.draws import Draws
from ctt.models.dropout import Dropout
from ctt.models.graphs.graph_source import GraphInputs, graph_source
from ctt.models.losses.objective import Objective, StepBatch
from ctt.models.losses.terms import step_gradients
from ctt.models.model_settings import GraphSettings, PredictorSettings
from ctt.models.predictor import Predictor
from ctt.training.slot_graphs import learn_side, make_side
from ctt.training.training_settings import WorldModelSettings
from ctt.training.world_model import optimizers_for
from tests.benchmarks.harness import Comparison, Ratio, benchmark

SOURCES = ("rollout_attention", "jacobian", "learned", "oracle")


@benchmark
def graph_sources(toy: bool) -> Comparison:
    batch, slots, width = (6, 7, 16) if toy else (64, 7, 128)
    settings = PredictorSettings(depth=2, heads=2, mlp_width=16) if toy else PredictorSettings()
    torch.manual_seed(0)
    x = torch.randn(batch, settings.history_size + settings.num_preds, slots, width)
    model = Predictor(settings, width)
    contact = torch.rand(batch, slots, slots) < 0.1
    steps = {source: graph_step(copy.deepcopy(model), settings, source, x, contact) for source in ("attention", *SOURCES)}
    return Comparison(
        ways=steps,
        ratios=[Ratio(f"graph_{source}_over_attention", source, "attention") for source in SOURCES],
        check=lambda: None,
        sizes=dict(batch=batch, width=width, slots=slots, history=3, predicted=1, depth=settings.depth, micro_batch=32),
    )


def graph_step(model: Predictor, settings: PredictorSettings, source: str, x: Tensor, contact: Tensor) -> Callable[[], None]:
    """One step with the graph of `source`. The truth is looked up beforehand: reading it is part of making a batch."""
    graph = GraphSettings(source=source)
    (optimizer,) = optimizers_for(model, WorldModelSettings())
    made, side = graph_source(source), None
    if made.network_purpose:
        side = make_side(settings, graph, x.shape[-1], 0, x.device)
    masked = torch.zeros(x.shape[0], x.shape[2], dtype=torch.bool)
    masked[:, :2] = True
    draws = Draws(masked, {"invariance": torch.full((len(x),), 4), "sufficiency": torch.full((len(x),), 3)})
    history = x[:, : model.history]
    count = iter(range(10**9))

    def given(number: int) -> Tensor | None:
        if made.reads_attention:
            return None
        network = None if side is None else side.model
        drawn = torch.Generator().manual_seed(number)
        inputs = GraphInputs(model, graph, history, masked, lambda: drawn, 32, network, lambda: contact)
        found = made.graph(inputs)
        if side is not None:
            learn_side(side, graph, x[: made.windows(graph)])
        return found

    def one() -> None:
        number = next(count)
        optimizer.zero_grad(set_to_none=True)
        step_gradients(
            model,
            StepBatch(x, draws, slot_graph=given(number)),
            Objective(graph, {"invariance": 0.2, "sufficiency": 0.1}),
            dropout=Dropout(0.1, "cheap", number),
            micro_batch=32,
        )
        optimizer.step()

    return one
