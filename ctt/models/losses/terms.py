"""What the world model is trained on: prediction, and the two CTT losses (invariance, Axiom 6; sufficiency, Axiom 4).

A step is three forwards: the main one, whose attention gives the slot graph, and one batch that holds the views of both
losses (`ctt.models.losses.passes`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ctt.models.draws import Draws
from ctt.models.dropout import Dropout
from ctt.models.graphs.slot_graph import Total, scoped
from ctt.models.losses.passes import Main, Views, chunks_of
from ctt.models.model_settings import GraphSettings
from ctt.models.predictor import Predictor


def step_gradients(
    model: Predictor,
    slots: Tensor,
    draws: Draws,
    *,
    inv_weight: float = 0.0,
    suf_weight: float = 0.0,
    threshold: float = 0.15,
    graph: GraphSettings,
    share_dropout: bool = True,
    dropout: Dropout | None = None,
    micro_batch: int | None = None,
    visible: Tensor | None = None,
    given: Tensor | None = None,
    across: Total | None = None,
) -> dict[str, Tensor]:
    """Adds the gradients of one step's total loss to the model's `.grad`; returns its terms, detached.

    slots (B,T,S,D); visible bool (B,T,S): count only those cells in the prediction and sufficiency losses (None: all);
    given (B,S,S): the graph, where its source is not read off the main pass.
    across: sums a tensor over the processes that share a batch; `slots` and `draws` are then this one's part, and gradients
    and terms its part of sums over all.
    A weight of 0 leaves its loss out: no draw, no forward, no entry in the result.
    """
    main = Main(
        model,
        slots,
        draws,
        graph,
        dropout,
        visible,
        keep=share_dropout and inv_weight > 0,
        viewed=inv_weight + suf_weight > 0,
        given=given,
        across=across,
    )
    chunks = list(chunks_of(len(slots), micro_batch))
    terms = main.run(chunks)
    total = terms["masked"] + terms["future"]
    if inv_weight + suf_weight > 0:
        views = Views(
            main,
            draws,
            scoped(main.slot_graph(), graph.scope, across),
            threshold,
            inv_weight > 0,
            suf_weight > 0,
        )
        invariance, sufficiency = views.run(chunks, inv_weight, suf_weight)
        if inv_weight > 0:
            terms["invariance"] = invariance
            total = total + inv_weight * invariance
        if suf_weight > 0:
            terms["sufficiency"] = sufficiency
            total = total + suf_weight * sufficiency
    return {"train_loss": total} | terms


@dataclass(frozen=True)
class Apart:
    """The terms of a step's loss one by one, unweighted: values, and norms of the gradients of each alone.

    same_masks: the invariance loss with the removed slot left in, so that both passes hide the same slots: what is left
    measures no dependence on any slot (0 where dropout masks are shared). None where no slot is non-neighbour.
    """

    terms: dict[str, float]
    norms: dict[str, float]
    same_masks: float | None


def terms_apart(
    model: Predictor,
    slots: Tensor,
    draws: Draws,
    *,
    threshold: float,
    graph: GraphSettings,
    share_dropout: bool,
    dropout: Dropout | None,
    micro_batch: int | None = None,
    visible: Tensor | None = None,
    given: Tensor | None = None,
) -> Apart:
    """The loss terms of a step as `step_gradients` makes them, both CTT losses acting; leaves no gradient behind."""
    main = Main(model, slots, draws, graph, dropout, visible, keep=share_dropout, viewed=True, given=given)
    chunks = list(chunks_of(len(slots), micro_batch))
    model.zero_grad()
    terms = {name: float(value) for name, value in main.run(chunks).items()}
    norms = {"prediction": _norm(model)}
    judged = scoped(main.slot_graph(), graph.scope)
    for name, inv, suf in (("invariance", 1.0, 0.0), ("sufficiency", 0.0, 1.0)):
        model.zero_grad()
        values = Views(main, draws, judged, threshold, inv > 0, suf > 0).run(chunks, inv, suf)
        terms[name], norms[name] = float(sum(values)), _norm(model)
    again, same = Views(main, draws, judged, threshold, True, False), None
    if again.removed is not None:
        again.removed = main.masked
        same = float(again.run(chunks, 1.0, 0.0)[0])
    model.zero_grad()
    return Apart(terms, norms, same)


def _norm(model: Predictor) -> float:
    squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
