"""Terms of the training objective: prediction and the two CTT losses (invariance, Axiom 6; sufficiency, Axiom 4).

A step is two forward passes: the prediction, whose attention gives the slot graph, and one batch with the masked views of
both losses (`ctt.models.losses.passes`).
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ctt.models.dropout import Dropout
from ctt.models.graphs.slot_graph import Total, scoped
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
    inv_weight, suf_weight = objective.inv_weight, objective.suf_weight
    if objective.has_views:
        graph = scoped(prediction.slot_graph(), objective.graph.scope, total)
        views = MaskedViews(prediction, graph, inv_weight > 0, suf_weight > 0)
        invariance, sufficiency = views.run(chunks, inv_weight, suf_weight)
        if inv_weight > 0:
            terms["invariance"] = invariance
            loss = loss + inv_weight * invariance
        if suf_weight > 0:
            terms["sufficiency"] = sufficiency
            loss = loss + suf_weight * sufficiency
    return {"train_loss": loss} | terms


@dataclasses.dataclass(frozen=True)
class SeparateTerms:
    """The unweighted terms of a step's loss: their values, and the norm of each one's gradients.

    same_masks: the invariance loss with the removed slot left in, so that both passes hide the same slots. It then measures
    no dependence on any slot (0 where dropout masks are shared). None where no slot is a non-neighbour.
    """

    terms: dict[str, float]
    norms: dict[str, float]
    same_masks: float | None


def separate_terms(
    model: Predictor,
    batch: StepBatch,
    objective: Objective,
    *,
    dropout: Dropout | None,
    micro_batch: int | None = None,
) -> SeparateTerms:
    """The loss terms of a step as `step_gradients` computes them, whatever their weights; leaves no gradients."""
    objective = dataclasses.replace(objective, inv_weight=1.0, suf_weight=1.0)
    prediction = PredictionPass(model, batch, objective, dropout, total=None)
    chunks = list(chunks_of(len(batch.slots), micro_batch))
    model.zero_grad()
    terms = {name: float(value) for name, value in prediction.run(chunks).items()}
    norms = {"prediction": _norm(model)}
    graph = scoped(prediction.slot_graph(), objective.graph.scope)
    for name, inv, suf in (("invariance", 1.0, 0.0), ("sufficiency", 0.0, 1.0)):
        model.zero_grad()
        values = MaskedViews(prediction, graph, inv > 0, suf > 0).run(chunks, inv, suf)
        terms[name], norms[name] = float(sum(values)), _norm(model)
    unchanged, same = MaskedViews(prediction, graph, True, False), None
    if unchanged.removed is not None:
        unchanged.removed = prediction.masked
        same = float(unchanged.run(chunks, 1.0, 0.0)[0])
    model.zero_grad()
    return SeparateTerms(terms, norms, same)


def _norm(model: Predictor) -> float:
    squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
