"""Diagnostics: measures of a trained world model's slot graphs and of its loss terms.

Graphs are read as in training: under the step's slot masks and dropout, per window or as the batch's mean, whichever the
losses use. Graphs of every source are read, not only of the run's own.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctt.core.build_context import BuildContext
from ctt.core.settings import canonical_form
from ctt.data.dataset import Dataset, Split
from ctt.data.synthetic.interactions import Interactions
from ctt.data.windows import Windows
from ctt.models.draws import draw_slots
from ctt.models.dropout import Dropout, DropoutPass
from ctt.models.graphs.attention_reader import AttentionReader
from ctt.models.graphs.graph_source import GraphInputs, graph_source, graph_sources
from ctt.models.graphs.slot_graph import scoped
from ctt.models.losses.loss_term import diagnosed
from ctt.models.losses.objective import Objective, StepBatch
from ctt.models.losses.terms import separate_terms
from ctt.models.masking import draw_masked
from ctt.models.method import Method
from ctt.models.model_settings import GraphSettings
from ctt.models.predictor import Predictor
from ctt.training.batches.window_batches import windows_of
from ctt.training.diagnostics_settings import DiagnosticsSettings
from ctt.training.graph_measures import measures
from ctt.training.learner import SideNetwork
from ctt.training.rollout import load
from ctt.training.seeds import derive, generator
from ctt.training.slot_graphs import side_of
from ctt.training.threads import threads
from ctt.training.training_settings import WorldModelSettings

METRICS = "metrics.json"
LOSS_WINDOWS = 64
PUBLISHED_DROPOUT = 0.1
log = logging.getLogger(__name__)


def readings(own: GraphSettings, trained: bool, truth: bool) -> dict[str, GraphSettings]:
    """The settings of the graphs to read of a state, by name, with the run's own: under "own" if equal to none of the others.

    trained: whether the state has the network of its own source; truth: whether true interactions are known.
    """
    sound = dataclasses.replace(own, frames="sum", scope="sample", dropout="before")
    published = dataclasses.replace(own, source="attention", frames="mean", scope="batch", dropout="after")
    named = [
        name
        for name, source in graph_sources().items()
        if (source.always_diagnosed or name == own.source)
        and (not source.network_purpose or (trained and name == own.source))
        and (truth or not source.needs_truth)
    ]
    found = {"published attention": published} | {name: dataclasses.replace(sound, source=name) for name in named}
    if own_reading(own, found) is None and own.source in named:
        found["own"] = own
    return found


def own_reading(own: GraphSettings, found: dict[str, GraphSettings]) -> str | None:
    """The name in `found` of the run's own graph; None if it is not there."""
    return next((name for name, graph in found.items() if canonical_form(graph) == canonical_form(own)), None)


def diagnose(
    settings: WorldModelSettings,
    method: Method,
    num_masked_slots: int,
    seed: int,
    diagnostics: DiagnosticsSettings,
    state_folder: Path,
    dataset: Dataset,
    *,
    context: BuildContext,
) -> dict[str, Any]:
    """Writes metrics.json and returns it: {"windows", "batch", "threshold", "acting", "own", "touching", "readings":
    {name: `graph_measures.measures`}, "losses": `_Measurements.losses` of the run's own graph, "published_losses": of the
    published graph, with dropout masks that are not shared}. Logs a warning if the losses act and the run's graph is empty
    or full. Raises StoreError if the state does not fit the settings.
    """
    with threads(context.threads):
        state = _Measurements(settings, num_masked_slots, seed, diagnostics, state_folder, dataset, context.device)
        graphs = state.graphs()
        out = state.describe(graphs, method)
        out["acting"] = method.active(settings.epochs - 1)
        own = settings.graph if out["own"] else state.found["attention"]
        out["losses"] = state.losses(own, method, settings.dropout, settings.share_dropout)
        published = state.found["published attention"]
        out["published_losses"] = state.losses(published, method, settings.dropout or PUBLISHED_DROPOUT, False)
    if out["acting"] and out["own"] and (warning := out["readings"][out["own"]]["warning"]):
        log.warning("%s", warning)
    (context.folder / METRICS).write_text(json.dumps(out, sort_keys=True) + "\n", encoding="utf-8")
    context.log(settings.epochs, **_logged(out))
    return out


def _logged(out: dict[str, Any]) -> dict[str, float]:
    """The values that are logged as the run's metrics."""
    own = out["readings"].get(out["own"] or "attention")
    values = {f"graph_{name}": own[name] for name in ("density", "neighbours", "auroc", "average_precision")}
    values["invariance_with_equal_masks"] = out["losses"]["remaining"]
    return {name: float(value) for name, value in values.items() if value is not None}


class _Measurements:
    """A state, the windows on which it is measured, and its graphs there."""

    def __init__(
        self,
        settings: WorldModelSettings,
        num_masked_slots: int,
        seed: int,
        diagnostics: DiagnosticsSettings,
        state_folder: Path,
        dataset: Dataset,
        device: str,
    ) -> None:
        self.settings, self.seed, self.device = settings, seed, torch.device(device)
        self.predictor: Predictor = load(state_folder, settings).to(self.device)
        split: Split = dataset.split("validation")
        self.windows: Windows = windows_of(settings, split)
        count = min(diagnostics.windows, self.windows.count)
        chosen = torch.randperm(self.windows.count, generator=generator(0, "diagnosed windows"))[:count]
        self.index = chosen.numpy()  # in random order, so that batches are mixed as in training
        self.batch = min(settings.batch_size, count)
        self.slots = torch.from_numpy(self.windows.gather(self.index)).to(self.device)
        self.visible = torch.from_numpy(self.windows.visible(self.index))
        rng = generator(seed, "diagnosed masks")
        masks = [
            draw_masked(settings.masking, num_masked_slots, len(part), self.slots.shape[2], rng)
            for part in self.slots.split(self.batch)
        ]
        self.masked = torch.cat(masks)
        self.contact: np.ndarray | None = None
        if dataset.has_truth:
            self.contact = Interactions(split.truth, self.windows).among_slots(self.index)
        self.side = self._side(state_folder)
        self.found = readings(settings.graph, self.side is not None, self.contact is not None)

    def _side(self, folder: Path) -> SideNetwork | None:
        return side_of(folder, self.settings, self.settings.graph, self.slots.shape[-1], self.device)

    def graphs(self) -> dict[str, Tensor]:
        """The graph A (N,S,S) of each reading, as the losses use it, on the CPU."""
        parts: dict[str, list[Tensor]] = {name: [] for name in self.found}
        for number, at in enumerate(torch.arange(len(self.index)).split(self.batch)):
            history = self.slots[at, : self.settings.history_size]
            readers = {n: self._reader(g) for n, g in self.found.items() if graph_source(g.source).reads_attention}
            with torch.no_grad():
                self.predictor(
                    history,
                    self.masked[at].to(self.device),
                    rows=self.predictor.future_rows(self.slots.shape[2]),
                    drop=self._drop(number),
                    read=lambda *layer, readers=readers: [reader(*layer) for reader in readers.values()],
                )
            for name, graph in self.found.items():
                own = readers[name].graph() if name in readers else self._computed(graph, at, self.masked[at], number)
                parts[name].append(scoped(own, graph.scope).cpu())
        return {name: torch.cat(values) for name, values in parts.items()}

    def _reader(self, graph: GraphSettings) -> AttentionReader:
        slots = self.slots.shape[2]
        return AttentionReader(graph, self.settings.depth, self.settings.history_size * slots, slots, 0)

    def _drop(self, number: int) -> DropoutPass | None:
        p = self.settings.dropout
        seed = derive(self.seed, "diagnosed dropout", number)
        return DropoutPass(Dropout(p, self.settings.dropout_kind, seed, self.device)) if p else None

    def _computed(self, graph: GraphSettings, at: Tensor, masked: Tensor, number: int) -> Tensor:
        """The graph (B,S,S) of the windows `at`, of a source that is not read from the prediction pass."""
        source, contact = graph_source(graph.source), self.contact
        given = GraphInputs(
            predictor=self.predictor,
            settings=graph,
            history=self.slots[at, : self.settings.history_size],
            masked=masked,
            generator=lambda: generator(self.seed, f"diagnosed {source.purpose}", number),
            micro_batch=self.settings.micro_batch,
            network=None if self.side is None else self.side.model,
            touching=None if contact is None else lambda: torch.from_numpy(contact[at.numpy()]),
        )
        return source.graph(given)

    def describe(self, graphs: dict[str, Tensor], method: Method) -> dict[str, Any]:
        terms, threshold = diagnosed(method.weights), method.adj_threshold
        seen = self.visible.any(1).numpy()  # (N,S): the slot's object is in view in at least one frame of the window
        return {
            "windows": len(self.index),
            "batch": self.batch,
            "threshold": threshold,
            "own": own_reading(self.settings.graph, self.found),
            "touching": None if self.contact is None else float(self.contact.sum((1, 2)).mean() / 2),
            "readings": {
                name: measures(name, graph.double().numpy(), threshold, self.masked.numpy(), self.contact, seen, terms)
                for name, graph in graphs.items()
            },
        }

    def losses(self, graph: GraphSettings, method: Method, p: float, share: bool) -> dict[str, Any]:
        """{"dropout", "share_dropout", "terms", "gradient_norms", "same_masks", "remaining"}: see `SeparateTerms`;
        remaining = same_masks / invariance, None if invariance is 0. Of a further term that compares passes these are
        "same_masks of NAME" and "remaining of NAME"."""
        terms = diagnosed(method.weights)
        at = torch.arange(min(LOSS_WINDOWS, len(self.index)))
        masked = self.masked[at] if graph.scope == "sample" else self.masked[:1].expand(len(at), -1)
        slot_graph = None if graph_source(graph.source).reads_attention else self._computed(graph, at, masked, 0)
        rng = itertools.count()
        draws = draw_slots(masked, terms, graph.scope, lambda _: generator(self.seed, "diagnosed slots", next(rng)))
        kind = self.settings.dropout_kind
        visible = self.visible[at].to(self.device) if self.settings.loss_on == "visible" else None
        found = separate_terms(
            self.predictor,
            StepBatch(self.slots[at], draws, visible, slot_graph),
            Objective(graph, threshold=method.adj_threshold, share_dropout=share, options=method.others),
            terms,
            dropout=Dropout(p, kind, derive(self.seed, "diagnosed losses"), self.device) if p else None,
            micro_batch=32,
        )
        out = {"dropout": p, "share_dropout": share, "terms": found.terms, "gradient_norms": found.norms}
        for name, same in found.same_masks.items():
            of, value = "" if name == "invariance" else f" of {name}", found.terms[name]
            out |= {f"same_masks{of}": same, f"remaining{of}": same / value if same is not None and value > 0 else None}
        return out
