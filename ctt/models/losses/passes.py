"""The forward passes of a step: the prediction pass and the masked views of both CTT losses.

The backward pass of the prediction comes before the views are computed (for them, the prediction is a constant). Each pass
goes through the batch in micro-batches, so that activations stay in cache; all means are over the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ctt.models.dropout import Dropout, DropoutPass
from ctt.models.graphs.slot_graph import AttentionReader, Total, indifferent_to, irrelevant_for
from ctt.models.losses.objective import Objective, StepBatch
from ctt.models.predictor import Predictor, Rows


class PredictionPass:
    """The pass that predicts: its losses, and what the views need of it."""

    def __init__(
        self, model: Predictor, batch: StepBatch, objective: Objective, dropout: Dropout | None, total: Total | None
    ) -> None:
        self.model, self.batch, self.objective, self.dropout, self.total = model, batch, objective, dropout, total
        self.keeps_masks = objective.share_dropout and objective.inv_weight > 0
        self.reads_graph = objective.has_views and batch.slot_graph is None
        slots, history = batch.slots, model.history
        self.slots, self.count = slots, slots.shape[2]
        self.masked = batch.draws.masked.to(slots.device)
        self.hidden = self.masked.nonzero()[:, 1].view(len(slots), -1)  # (B,M), every row has M masked slots
        self.truth = slots[:, history:]
        counted = torch.ones_like(slots[..., 0]) if batch.visible is None else batch.visible.to(slots.dtype)
        self.future_weight = normalised(counted[:, history:], total)
        self.hidden_weight = normalised(counted[:, :history].gather(2, self.hidden[:, None].expand(-1, history, -1)), total)
        self.target_weight = counted[:, history:]
        self.graphs: list[Tensor] = []
        self.clean: list[Tensor] = []
        self.masks: list[list[Tensor]] = []

    def run(self, chunks: list[slice]) -> dict[str, Tensor]:
        """Adds the gradients of the prediction losses; returns both losses, detached."""
        parts = [self._chunk(chunk) for chunk in chunks]
        masked, future = (torch.stack(values).sum() for values in zip(*parts, strict=True))
        return {"masked": masked, "future": future}

    def slot_graph(self) -> Tensor:
        """A (B,S,S), after `run`."""
        return torch.cat(self.graphs) if self.batch.slot_graph is None else self.batch.slot_graph.to(self.slots)

    def _chunk(self, chunk: slice) -> tuple[Tensor, Tensor]:
        model, slots, hidden = self.model, self.slots[chunk], self.hidden[chunk]
        history, future, count, masked_count = model.history, model.future, self.count, hidden.shape[1]
        rows = self._rows(hidden)
        drop = None if self.dropout is None else DropoutPass(self.dropout, keep=self.keeps_masks)
        if drop is not None and model.compiled:
            drop.draw_ahead(model.dropout_shapes(len(slots), count, future * count + history * masked_count), slots.dtype)
        reader = None
        if self.reads_graph:
            reader = AttentionReader(self.objective.graph, len(model.transformer.layers), history * count, count, 0)
        predicted = model(slots[:, :history], self.masked[chunk], rows=rows, drop=drop, read=reader).to(slots.dtype)
        ahead = torch.unflatten(predicted[:, : future * count], 1, (future, count))
        future_loss = ((ahead - self.truth[chunk]).square().mean(-1) * self.future_weight[chunk]).sum()
        if masked_count:
            past_truth = slots[:, :history].gather(2, hidden[:, None, :, None].expand(-1, history, -1, slots.shape[-1]))
            past_error = (predicted[:, future * count :].view_as(past_truth) - past_truth).square().mean(-1)
            masked_loss = (past_error * self.hidden_weight[chunk]).sum()
        else:
            masked_loss = torch.zeros_like(future_loss)
        torch.autograd.backward(masked_loss + future_loss)
        if reader is not None:
            self.graphs.append(reader.graph().to(slots.dtype))
        if self.objective.has_views:
            self.clean.append(ahead.detach())
            self.masks.append(drop.masks if drop is not None and self.keeps_masks else [])
        return masked_loss.detach(), future_loss.detach()

    def _rows(self, hidden: Tensor) -> Rows:
        """The tokens to predict: all of the future frames, then the masked slots `hidden` (b,M) of the given ones."""
        history, count = self.model.history, self.count
        if not hidden.shape[1]:
            return self.model.future_rows(count)
        tokens = torch.arange((history + self.model.future) * count, device=hidden.device).view(-1, count)
        past = (tokens[:history, :1] + hidden[:, None]).flatten(1)  # (b,H·M)
        return torch.cat([tokens[history:].flatten().expand(len(hidden), -1), past], 1)


class MaskedViews:
    """The masked views of both losses: which slots they hide, and what counts in them."""

    def __init__(self, prediction: PredictionPass, graph: Tensor, invariance: bool, sufficiency: bool) -> None:
        """graph (B,S,S): the one that each window is judged by (`scoped`)."""
        self.prediction, device = prediction, graph.device
        draws, threshold, total = prediction.batch.draws, prediction.objective.threshold, prediction.total
        self.removed = self.target = None
        if invariance and draws.removed is not None:
            removed = draws.removed.to(device)
            self.removed = prediction.masked.scatter(1, removed[:, None], True)
            self.unmoved = normalised(
                (indifferent_to(graph, removed, threshold) & ~prediction.masked).to(prediction.slots.dtype), total
            )
        if sufficiency and draws.target is not None:
            self.target = draws.target.to(device)
            self.irrelevant = irrelevant_for(graph, self.target, threshold)
            index = self.target[:, None, None].expand(-1, prediction.model.future, 1)
            counted = prediction.target_weight.gather(2, index).squeeze(2)
            self.predicted = normalised(self.irrelevant.any(1, keepdim=True) * counted, total)
        if self.removed is not None and not bool(self.unmoved.any()):
            self.removed = None
        if self.target is not None and not bool(self.predicted.any()):
            self.target = None

    def run(self, chunks: list[slice], inv_weight: float, suf_weight: float) -> tuple[Tensor, Tensor]:
        """Adds the gradients of the weighted losses; returns invariance and sufficiency, unweighted and detached."""
        zero = self.prediction.slots.new_zeros(())
        invariance, sufficiency = zero, zero
        if self.removed is None and self.target is None:
            return invariance, sufficiency
        for number, chunk in enumerate(chunks):
            inv, suf = self._chunk(number, chunk)
            torch.autograd.backward(inv_weight * inv + suf_weight * suf)
            invariance, sufficiency = invariance + inv.detach(), sufficiency + suf.detach()
        return invariance, sufficiency

    def _chunk(self, number: int, chunk: slice) -> tuple[Tensor, Tensor]:
        main = self.prediction
        model, slots = main.model, main.slots[chunk]
        hidden = [] if self.removed is None else [self.removed[chunk]]
        hidden += [] if self.target is None else [self.irrelevant[chunk]]
        size = len(slots)
        drop = None
        if main.dropout is not None:
            replay = main.masks[number] if main.keeps_masks and self.removed is not None else None
            drop = DropoutPass(main.dropout, replay=replay, replayed=0 if replay is None else size)
            if model.compiled:
                shapes = model.dropout_shapes(size * len(hidden), main.count, model.future * main.count)
                drop.draw_ahead(shapes, slots.dtype)
        history = slots[:, : model.history].repeat(len(hidden), 1, 1, 1)
        predicted = model(history, torch.cat(hidden), rows=model.future_rows(main.count), drop=drop).to(slots.dtype)
        views = list(torch.split(torch.unflatten(predicted, 1, (model.future, main.count)), size))
        inv = suf = predicted.new_zeros(())
        if self.removed is not None:
            moved = (views.pop(0) - main.clean[number]).square().mean((1, 3))  # (b,S)
            inv = (moved * self.unmoved[chunk]).sum()
        if self.target is not None:
            error = (views.pop(0) - main.truth[chunk]).square().mean(-1)  # (b,P,S)
            target = self.target[chunk][:, None, None].expand(-1, model.future, 1)
            suf = (error.gather(2, target).squeeze(2) * self.predicted[chunk]).sum()
        return inv, suf


def normalised(weight: Tensor, total: Total | None) -> Tensor:
    """Weights that sum to 1 (over all processes), or stay 0 where all are 0."""
    if not weight.numel():
        return weight
    whole = weight.sum()
    return weight / (whole if total is None else total(whole)).clamp(min=1)


def chunks_of(batch: int, size: int | None) -> Iterator[slice]:
    """The micro-batches of a batch, `size` windows each (None: one micro-batch)."""
    for first in range(0, batch, size or batch):
        yield slice(first, min(first + (size or batch), batch))
