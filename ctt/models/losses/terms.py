"""The gradients of a step: of the prediction and of the loss terms (invariance, Axiom 6; sufficiency, Axiom 4; others).

A step is two forward passes: the prediction, whose attention gives the slot graph, and one batch with the masked views of
all terms (`ctt.models.losses.passes`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import torch
from torch import Tensor

from ctt.models.dropout import Dropout
from ctt.models.graphs.slot_graph import Total, scoped
from ctt.models.losses.loss_term import LossTerm
from ctt.models.losses.objective import Objective, StepBatch
from ctt.models.losses.passes import MaskedViews, PredictionPass, chunks_of
from ctt.models.predictor import Predictor


def step_gradients(
    model: Predictor,
    batch: StepBatch,
    objective: Objective,
    *,
    dropout: Dropout | None = None,
    micro_batch: int | None = None,
    total: Total | None = None,
) -> dict[str, Tensor]:
    """Adds the gradients of one step's total loss to the model's `.grad`; returns its terms, detached.

    total: sums a tensor over the processes that share a batch; `batch` is then the part of this process, and gradients and
    terms are its part of sums over all. A weight of 0 leaves its loss out: no draw, no forward pass, no entry in the result.
    """
    prediction = PredictionPass(model, batch, objective, dropout, total)
    chunks = list(chunks_of(len(batch.slots), micro_batch))
    terms = prediction.run(chunks)
    loss = terms["masked"] + terms["future"]
    if prediction.has_views:
        graph = scoped(prediction.slot_graph(), objective.graph.scope, total)
        every = batch.slots.device.type != "cpu"
        for name, value in MaskedViews(prediction, graph, objective.weights, every).run(chunks).items():
            terms[name] = value
            loss = loss + objective.weights[name] * value
    return {"train_loss": loss} | terms


@dataclasses.dataclass(frozen=True)
class SeparateTerms:
    """The unweighted terms of a step's loss: their values, and the norm of each one's gradients.

    same_masks: of each term that compares its view with the prediction pass (invariance), its loss where both hide the same
    slots. It then measures no dependence on any slot (0 where dropout masks are shared). None where it has no view.
    """

    terms: dict[str, float]
    norms: dict[str, float]
    same_masks: dict[str, float | None]


def separate_terms(
    model: Predictor,
    batch: StepBatch,
    objective: Objective,
    measured: Collection[LossTerm],
    *,
    dropout: Dropout | None,
    micro_batch: int | None = None,
) -> SeparateTerms:
    """The loss terms of a step as `step_gradients` computes them, those in `measured` whatever their weights; leaves no
    gradients."""
    objective = dataclasses.replace(objective, weights={term.name: 1.0 for term in measured})
    prediction = PredictionPass(model, batch, objective, dropout, total=None)
    chunks = list(chunks_of(len(batch.slots), micro_batch))
    model.zero_grad()
    terms = {name: float(value) for name, value in prediction.run(chunks).items()}
    norms = {"prediction": _norm(model)}
    graph = scoped(prediction.slot_graph(), objective.graph.scope)
    for term in measured:
        model.zero_grad()
        views = MaskedViews(prediction, graph, {term.name: 1.0})
        terms[term.name], norms[term.name] = float(views.run(chunks)[term.name]), _norm(model)
    same = {term.name: _with_same_masks(prediction, graph, term.name, chunks) for term in measured if term.compares}
    model.zero_grad()
    return SeparateTerms(terms, norms, same)


def _with_same_masks(prediction: PredictionPass, graph: Tensor, name: str, chunks: list[slice]) -> float | None:
    """The loss of the term `name` if its view hides the slots that the prediction pass hides, and no other."""
    views = MaskedViews(prediction, graph, {name: 1.0})
    if name not in views.views:
        return None
    views.views[name] = dataclasses.replace(views.views[name], hidden=prediction.masked)
    return float(views.run(chunks)[name])


def _norm(model: Predictor) -> float:
    squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
