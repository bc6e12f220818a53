"""The forward passes of a step: the prediction pass and the masked views of the loss terms.

The backward pass of the prediction comes before the views are computed (for them, the prediction is a constant). Each pass
goes through the batch in micro-batches, so that activations stay in cache; all means are over the whole batch.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ctt.models.dropout import Dropout, DropoutPass
from ctt.models.graphs.attention_reader import AttentionReader
from ctt.models.graphs.slot_graph import Total
from ctt.models.losses.loss_term import MaskedView, ViewInputs, acting
from ctt.models.losses.objective import Objective, StepBatch
from ctt.models.predictor import Predictor, Rows


class PredictionPass:
    """The pass that predicts: its losses, and what the views need of it."""

    def __init__(
        self, model: Predictor, batch: StepBatch, objective: Objective, dropout: Dropout | None, total: Total | None
    ) -> None:
        self.model, self.batch, self.objective, self.dropout, self.total = model, batch, objective, dropout, total
        terms = [term for term, _ in objective.acting()]
        self.has_views = bool(terms)
        self.keeps_masks = objective.share_dropout and any(term.compares for term in terms)
        self.reads_graph = self.has_views and batch.slot_graph is None
        slots, history = batch.slots, model.history
        self.slots, self.count = slots, slots.shape[2]
        self.masked = batch.draws.masked.to(slots.device)
        self.hidden = batch.draws.hidden.to(slots.device)
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
        if self.has_views:
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
    """The masked views of the loss terms with a weight, by their names: which slots they hide, and what counts in them."""

    def __init__(self, prediction: PredictionPass, graph: Tensor, weights: Mapping[str, float], every: bool = False) -> None:
        """graph (B,S,S): the one that each window is judged by (`scoped`). every: also views in which nothing counts, whose
        gradients are 0, are computed: to find out which these are, the host would wait for the device."""
        self.prediction, self.graph = prediction, graph
        self.terms = {term.name: term for term, _ in acting(weights)}
        self.weights = {name: weights[name] for name in self.terms}
        found = {name: self._view(name) for name in self.terms}
        views = {name: view for name, view in found.items() if view is not None and (every or bool(view.weight.any()))}
        compared = sorted(views, key=lambda name: not self.terms[name].compares)  # the sort is stable
        self.views: dict[str, MaskedView] = {name: views[name] for name in compared}

    def _view(self, name: str) -> MaskedView | None:
        main, objective, term = self.prediction, self.prediction.objective, self.terms[name]
        drawn = main.batch.draws.terms.get(name)
        if term.purpose is not None and drawn is None:
            return None
        given = ViewInputs(
            drawn=None if drawn is None else drawn.to(self.graph.device),
            graph=self.graph,
            threshold=objective.threshold,
            masked=main.masked,
            counted=main.target_weight,
            normalised=functools.partial(normalised, total=main.total),
            options=self._options(name),
        )
        return term.view(given)

    def _options(self, name: str) -> dict[str, Any]:
        given = self.prediction.objective.options
        return {key: given.get(key, made.default) for key, made in self.terms[name].options.items()}

    def run(self, chunks: list[slice]) -> dict[str, Tensor]:
        """Adds the gradients of the weighted losses; returns each one, unweighted and detached."""
        values = {name: self.prediction.slots.new_zeros(()) for name in self.terms}
        for number, chunk in enumerate(chunks if self.views else []):
            found = self._chunk(number, chunk)
            torch.autograd.backward(functools.reduce(torch.add, (self.weights[name] * value for name, value in found.items())))
            values |= {name: values[name] + value.detach() for name, value in found.items()}
        return values

    def _chunk(self, number: int, chunk: slice) -> dict[str, Tensor]:
        main = self.prediction
        model, slots = main.model, main.slots[chunk]
        parts = {name: view.part(chunk) for name, view in self.views.items()}
        size = len(slots)
        drop = None
        if main.dropout is not None:
            drop = self._dropout(main.dropout, number, size)
            if model.compiled:
                shapes = model.dropout_shapes(size * len(parts), main.count, model.future * main.count)
                drop.draw_ahead(shapes, slots.dtype)
        history = slots[:, : model.history].repeat(len(parts), 1, 1, 1)
        hidden = torch.cat([part.hidden for part in parts.values()])
        predicted = model(history, hidden, rows=model.future_rows(main.count), drop=drop).to(slots.dtype)
        views = torch.split(torch.unflatten(predicted, 1, (model.future, main.count)), size)
        clean, truth = main.clean[number], main.truth[chunk]
        return {
            name: self.terms[name].value(part, view, clean, truth, self._options(name))
            for (name, part), view in zip(parts.items(), views, strict=True)
        }

    def _dropout(self, dropout: Dropout, number: int, size: int) -> DropoutPass:
        """Views that are compared with the prediction pass come first and reuse its masks."""
        compared = sum(self.terms[name].compares for name in self.views) if self.prediction.keeps_masks else 0
        if not compared:
            return DropoutPass(dropout)
        masks = self.prediction.masks[number]
        replay = masks if compared == 1 else [torch.cat([mask] * compared) for mask in masks]
        return DropoutPass(dropout, replay=replay, replayed=compared * size)


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
