"""What the world model is trained on: prediction, and the two CTT losses (invariance, Axiom 6; sufficiency, Axiom 4).

A step is three forwards: the main one, whose attention gives the slot graph, and one batch that holds the views of both
losses. The main backward is done before the views are made (they see the main prediction as a constant), and each goes
through the batch in micro-batches, so that activations stay in cache; all means are over the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ctt.models.dropout import Dropout, Pass
from ctt.models.graph import (
    GraphSettings,
    Reader,
    Total,
    draw_any,
    draw_unmasked,
    indifferent_to,
    irrelevant_for,
    scoped,
)
from ctt.models.predictor import Predictor
from ctt.settings import Rule, Settings, setting


@dataclass
class Method(Settings):
    """The CTT losses: total = prediction + inv_weight · invariance + suf_weight · sufficiency, from an epoch on."""

    inv_weight: float = setting(0.0, "weight of the invariance loss; 0 leaves it out", minimum=0)
    suf_weight: float = setting(0.0, "weight of the sufficiency loss; 0 leaves it out", minimum=0)
    adj_threshold: float = setting(
        0.15,
        "a slot is a neighbour of another if their entry in the slot graph is at least this much",
        minimum=0,
        maximum=1,
    )
    start_epoch: int = setting(10, "the losses act in this epoch (counted from 0) and all later ones", minimum=0)

    def active(self, epoch: int) -> bool:
        """Whether any CTT loss acts in this epoch."""
        return epoch >= self.start_epoch and (self.inv_weight > 0 or self.suf_weight > 0)


# What of a training (`TrainingSettings`: the names users write) the losses leave unread.
_GRAPH_AND_VIEWS = ("ctt_adj_threshold", "world_model.graph", "world_model.share_dropout")
_LOSSES = ("ctt_inv_weight", "ctt_suf_weight", "ctt_start_epoch", *_GRAPH_AND_VIEWS)
RULES = (
    Rule(
        _LOSSES,
        "both CTT weights are 0, so no slot graph is read",
        lambda training: training.ctt_inv_weight == 0 and training.ctt_suf_weight == 0,
    ),
    Rule(
        _LOSSES,
        "training ends before the CTT losses start",
        lambda training: training.ctt_start_epoch >= training.world_model.epochs,
    ),
    Rule(
        ("world_model.share_dropout",),
        "only the invariance loss compares two passes, and its weight is 0",
        lambda training: training.ctt_inv_weight == 0,
    ),
)


@dataclass(frozen=True)
class Draws:
    """A step's random choices: masked slots (B,S), and, (B,) or None, the slot removed for invariance and the one
    predicted for sufficiency."""

    masked: Tensor
    removed: Tensor | None = None
    target: Tensor | None = None

    def part(self, part: slice) -> Draws:
        """The draws of some of the batch's windows."""
        removed, target = (None if x is None else x[part] for x in (self.removed, self.target))
        return Draws(self.masked[part], removed, target)


def draw_slots(
    masked: Tensor, invariance: bool, sufficiency: bool, scope: str, rng: Callable[[str], torch.Generator]
) -> Draws:
    """Draws what the active losses need, each from its own generator `rng(purpose)`; an inactive loss draws nothing."""
    removed = draw_unmasked(masked, scope, rng("removed slot")) if invariance else None
    target = draw_any(len(masked), masked.shape[1], scope, rng("target slot")) if sufficiency else None
    return Draws(masked, removed, target)


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
    main = _Main(
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
    chunks = list(_chunks(len(slots), micro_batch))
    terms = main.run(chunks)
    total = terms["masked"] + terms["future"]
    if inv_weight + suf_weight > 0:
        views = _Views(
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
    main = _Main(model, slots, draws, graph, dropout, visible, keep=share_dropout, viewed=True, given=given)
    chunks = list(_chunks(len(slots), micro_batch))
    model.zero_grad()
    terms = {name: float(value) for name, value in main.run(chunks).items()}
    norms = {"prediction": _norm(model)}
    judged = scoped(main.slot_graph(), graph.scope)
    for name, inv, suf in (("invariance", 1.0, 0.0), ("sufficiency", 0.0, 1.0)):
        model.zero_grad()
        values = _Views(main, draws, judged, threshold, inv > 0, suf > 0).run(chunks, inv, suf)
        terms[name], norms[name] = float(sum(values)), _norm(model)
    again, same = _Views(main, draws, judged, threshold, True, False), None
    if again.removed is not None:
        again.removed = main.masked
        same = float(again.run(chunks, 1.0, 0.0)[0])
    model.zero_grad()
    return Apart(terms, norms, same)


def _norm(model: Predictor) -> float:
    squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


class _Main:
    """The pass that predicts: its losses, and what the views need of it."""

    def __init__(
        self,
        model: Predictor,
        slots: Tensor,
        draws: Draws,
        graph: GraphSettings,
        dropout: Dropout | None,
        visible: Tensor | None,
        *,
        keep: bool,
        viewed: bool,
        given: Tensor | None = None,
        across: Total | None = None,
    ) -> None:
        """keep: the dropout masks, for the views; viewed: whether there are any; given: the graph, if it is not read."""
        self.model, self.slots, self.graph, self.dropout = model, slots, graph, dropout
        self.keep, self.viewed, self.given, self.across = keep, viewed, given, across
        self.masked = draws.masked.to(slots.device)
        batch, self.count = len(slots), slots.shape[2]
        history = model.history
        self.hidden = self.masked.nonzero()[:, 1].view(batch, -1)  # (B,M), every row has M masked slots
        self.truth = slots[:, history:]
        cells = torch.ones_like(slots[..., 0]) if visible is None else visible.to(slots.dtype)
        self.future_weight = _normalised(cells[:, history:], across)
        self.hidden_weight = _normalised(
            cells[:, :history].gather(2, self.hidden[:, None].expand(-1, history, -1)), across
        )
        self.target_weight = cells[:, history:]
        self.graphs: list[Tensor] = []
        self.clean: list[Tensor] = []
        self.masks: list[list[Tensor]] = []

    def run(self, chunks: list[slice]) -> dict[str, Tensor]:
        parts = [self._chunk(chunk) for chunk in chunks]
        masked, future = (torch.stack(values).sum() for values in zip(*parts, strict=True))
        return {"masked": masked, "future": future}

    def slot_graph(self) -> Tensor:
        """A (B,S,S), after `run`."""
        return torch.cat(self.graphs) if self.given is None else self.given.to(self.slots)

    def _chunk(self, chunk: slice) -> tuple[Tensor, Tensor]:
        model, slots, hidden = self.model, self.slots[chunk], self.hidden[chunk]
        history, future, count, masked_count = model.history, model.future, self.count, hidden.shape[1]
        frames = torch.arange(history, device=slots.device)
        rows = model.future_rows(count)
        if masked_count:
            past = (frames[:, None] * count + hidden[:, None]).flatten(1)  # (b,H·M)
            rows = torch.cat([rows.expand(len(slots), -1), past], 1)
        drop = None if self.dropout is None else Pass(self.dropout, keep=self.keep)
        layers = len(model.transformer.layers)
        reader = None
        if self.viewed and self.given is None:
            reader = Reader(self.graph, layers, history * count, count, 0)
        predicted = model(slots[:, :history], self.masked[chunk], rows=rows, drop=drop, read=reader).to(slots.dtype)
        ahead = predicted[:, : future * count].unflatten(1, (future, count))
        future_loss = ((ahead - self.truth[chunk]).square().mean(-1) * self.future_weight[chunk]).sum()
        if masked_count:
            past_truth = slots[:, :history].gather(2, hidden[:, None, :, None].expand(-1, history, -1, slots.shape[-1]))
            past_error = (predicted[:, future * count :].view_as(past_truth) - past_truth).square().mean(-1)
            masked_loss = (past_error * self.hidden_weight[chunk]).sum()
        else:
            masked_loss = torch.zeros_like(future_loss)
        (masked_loss + future_loss).backward()
        if reader is not None:
            self.graphs.append(reader.graph().to(slots.dtype))
        if self.viewed:
            self.clean.append(ahead.detach())
            self.masks.append(drop.masks if drop is not None else [])
        return masked_loss.detach(), future_loss.detach()


class _Views:
    """The masked views of both losses: which slots they hide, and what counts in them."""

    def __init__(
        self,
        main: _Main,
        draws: Draws,
        graph: Tensor,
        threshold: float,
        invariance: bool,
        sufficiency: bool,
    ) -> None:
        self.main, device = main, graph.device
        self.removed = self.target = None
        if invariance and draws.removed is not None:
            removed = draws.removed.to(device)
            self.removed = main.masked.scatter(1, removed[:, None], True)
            self.unmoved = _normalised(
                (indifferent_to(graph, removed, threshold) & ~main.masked).to(main.slots.dtype), main.across
            )
        if sufficiency and draws.target is not None:
            self.target = draws.target.to(device)
            self.alone = irrelevant_for(graph, self.target, threshold)
            cells = main.target_weight.gather(2, self.target[:, None, None].expand(-1, main.model.future, 1)).squeeze(2)
            self.predicted = _normalised(self.alone.any(1, keepdim=True) * cells, main.across)
        if self.removed is not None and not bool(self.unmoved.any()):
            self.removed = None
        if self.target is not None and not bool(self.predicted.any()):
            self.target = None

    def run(self, chunks: list[slice], inv_weight: float, suf_weight: float) -> tuple[Tensor, Tensor]:
        zero = self.main.slots.new_zeros(())
        invariance, sufficiency = zero, zero
        if self.removed is None and self.target is None:
            return invariance, sufficiency
        for number, chunk in enumerate(chunks):
            inv, suf = self._chunk(number, chunk)
            (inv_weight * inv + suf_weight * suf).backward()
            invariance, sufficiency = invariance + inv.detach(), sufficiency + suf.detach()
        return invariance, sufficiency

    def _chunk(self, number: int, chunk: slice) -> tuple[Tensor, Tensor]:
        main = self.main
        model, slots = main.model, main.slots[chunk]
        hidden = [] if self.removed is None else [self.removed[chunk]]
        hidden += [] if self.target is None else [self.alone[chunk]]
        size = len(slots)
        drop = None
        if main.dropout is not None:
            replay = main.masks[number] if main.keep and self.removed is not None else None
            drop = Pass(main.dropout, replay=replay, replayed=0 if replay is None else size)
        history = slots[:, : model.history].repeat(len(hidden), 1, 1, 1)
        predicted = model(history, torch.cat(hidden), rows=model.future_rows(main.count), drop=drop).to(slots.dtype)
        views = list(predicted.unflatten(1, (model.future, main.count)).split(size))
        inv = suf = predicted.new_zeros(())
        if self.removed is not None:
            moved = (views.pop(0) - main.clean[number]).square().mean((1, 3))  # (b,S)
            inv = (moved * self.unmoved[chunk]).sum()
        if self.target is not None:
            error = (views.pop(0) - main.truth[chunk]).square().mean(-1)  # (b,P,S)
            target = self.target[chunk][:, None, None].expand(-1, model.future, 1)
            suf = (error.gather(2, target).squeeze(2) * self.predicted[chunk]).sum()
        return inv, suf


def _normalised(weight: Tensor, across: Total | None) -> Tensor:
    """Weights that sum to 1 (over all processes), or stay 0 where there are none."""
    if not weight.numel():
        return weight
    whole = weight.sum()
    return weight / (whole if across is None else across(whole)).clamp(min=1)


def _chunks(batch: int, size: int | None) -> Iterator[slice]:
    for first in range(0, batch, size or batch):
        yield slice(first, min(first + (size or batch), batch))
