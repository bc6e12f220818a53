"""The passes of a step: the one that predicts, and the views of both CTT losses beside it.

The main backward is done before the views are made (they see the main prediction as a constant), and each goes through the
batch in micro-batches, so that activations stay in cache; all means are over the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ctt.models.draws import Draws
from ctt.models.dropout import Dropout, Pass
from ctt.models.graphs.slot_graph import AttentionReader, Total, indifferent_to, irrelevant_for
from ctt.models.model_settings import GraphSettings
from ctt.models.predictor import Predictor, Rows


class Main:
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
        self.future_weight = normalised(cells[:, history:], across)
        self.hidden_weight = normalised(
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
        cells = torch.arange((history + future) * count, device=slots.device).unflatten(0, (-1, count))
        rows: Rows = model.future_rows(count)
        if masked_count:
            past = (cells[:history, :1] + hidden[:, None]).flatten(1)  # (b,H·M)
            rows = torch.cat([cells[history:].flatten().expand(len(slots), -1), past], 1)
        drop = None if self.dropout is None else Pass(self.dropout, keep=self.keep)
        if drop is not None and model.compiled:
            drop.draw_ahead(model.dropped(len(slots), count, future * count + history * masked_count), slots.dtype)
        layers = len(model.transformer.layers)
        reader = None
        if self.viewed and self.given is None:
            reader = AttentionReader(self.graph, layers, history * count, count, 0)
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
            self.masks.append(drop.masks if drop is not None and self.keep else [])
        return masked_loss.detach(), future_loss.detach()


class Views:
    """The masked views of both losses: which slots they hide, and what counts in them."""

    def __init__(
        self,
        main: Main,
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
            self.unmoved = normalised(
                (indifferent_to(graph, removed, threshold) & ~main.masked).to(main.slots.dtype), main.across
            )
        if sufficiency and draws.target is not None:
            self.target = draws.target.to(device)
            self.alone = irrelevant_for(graph, self.target, threshold)
            cells = main.target_weight.gather(2, self.target[:, None, None].expand(-1, main.model.future, 1)).squeeze(2)
            self.predicted = normalised(self.alone.any(1, keepdim=True) * cells, main.across)
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
            if model.compiled:
                drop.draw_ahead(model.dropped(size * len(hidden), main.count, model.future * main.count), slots.dtype)
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


def normalised(weight: Tensor, across: Total | None) -> Tensor:
    """Weights that sum to 1 (over all processes), or stay 0 where there are none."""
    if not weight.numel():
        return weight
    whole = weight.sum()
    return weight / (whole if across is None else across(whole)).clamp(min=1)


def chunks_of(batch: int, size: int | None) -> Iterator[slice]:
    for first in range(0, batch, size or batch):
        yield slice(first, min(first + (size or batch), batch))
