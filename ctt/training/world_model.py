"""Training the world model: its steps, its optimizers and its validation."""

from __future__ import annotations

import dataclasses
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctt.core.build_context import BuildContext
from ctt.core.errors import Diverged, SettingError, StoreError
from ctt.core.process_group import ProcessGroup
from ctt.data.dataset import Dataset, Split
from ctt.data.windows import Windows
from ctt.models.draws import draw_slots
from ctt.models.dropout import Dropout
from ctt.models.graphs.graph_source import GraphInputs, GraphSource, graph_source
from ctt.models.losses.loss_term import acting
from ctt.models.losses.objective import Objective, StepBatch
from ctt.models.losses.terms import step_gradients
from ctt.models.masking import draw_masked
from ctt.models.method import Method
from ctt.models.predictor import Predictor
from ctt.training.learner import Learner, SideNetwork
from ctt.training.optimizers import optimizers_for, set_rates
from ctt.training.rollout import METRICS, load
from ctt.training.seeds import derive, generator
from ctt.training.slot_graphs import TrueInteractions, learn_side, make_side
from ctt.training.threads import threads
from ctt.training.trainer import Segment, train_segment
from ctt.training.training_settings import WorldModelSettings

VALIDATION_BATCH = 256
MASKED_WINDOWS = 256
"""Validation windows whose masked slots are predicted too: another pass over all windows would cost a sixth of an epoch."""
EXPLODED = 1000
"""Training stops if the validation error is more than this many times that of repeating the last frame, though finite."""


class WorldModelLearner(Learner):
    """The predictor with its losses, for `train_segment`."""

    def __init__(
        self,
        settings: WorldModelSettings,
        method: Method,
        num_masked_slots: int,
        seed: int,
        dataset: Dataset,
        device: str,
    ) -> None:
        train = dataset.split("train")
        count, width = train.slots.shape[2:]
        if not 0 <= num_masked_slots <= count:
            raise SettingError(f"num_masked_slots must lie in 0..{count}, got {num_masked_slots}")
        self.settings, self.method, self.num_masked_slots, self.seed = settings, method, num_masked_slots, seed
        self.width, self.slots, self.device, self.precision = width, count, torch.device(device), settings.precision
        self.windows = windows_of(settings, train, settings.windows.store)
        self.drawn = min(settings.windows.per_epoch or self.windows.count, self.windows.count)
        self.steps = self.drawn // settings.batch_size
        if self.steps == 0:
            raise SettingError(f"world_model.batch_size {settings.batch_size} is more than the {self.drawn} windows of an epoch")
        with torch.random.fork_rng():
            torch.manual_seed(derive(seed, "weights"))
            self.model = Predictor(settings, width).to(self.device)
        self.predictor: Predictor = self.model
        if settings.compile:
            self.model.compile_calls(settings.compile_mode)
        self.optimizers = optimizers_for(self.model, settings)
        self.average = settings.average
        self.truth = None
        if graph_source(settings.graph.source).needs_truth and method.active(settings.epochs - 1):
            self.truth = TrueInteractions(train, self.windows)
        self.validation = Validation(settings, dataset.split("validation"), num_masked_slots)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def join(self, group: ProcessGroup) -> None:
        """Shares the batches with the processes of `group`. Raises SettingError if there are more processes than windows."""
        if group.size > self.settings.batch_size:
            raise SettingError(f"world_model.batch_size {self.settings.batch_size} can't be shared by {group.size} processes")
        self.group = group

    def gradients(self, epoch: int, step: int) -> dict[str, Tensor]:
        settings, method = self.settings, self.method
        size = settings.batch_size
        part, across = self.group.share(size), None if self.group.size == 1 else self.group.total
        index = self._epoch_order(epoch)[step * size : (step + 1) * size][part]
        slots = self.windows.tensor(index).to(self.device).float()
        visible = None
        if settings.loss_on == "visible":
            visible = torch.from_numpy(self.windows.visible(index)).to(self.device)
        weights = method.weights if method.active(epoch) else {}
        terms = [term for term, _ in acting(weights)]
        masked = draw_masked(settings.masking, self.num_masked_slots, size, self.slots, self._rng("masked", epoch, step))
        draws = draw_slots(masked, terms, settings.graph.scope, lambda purpose: self._rng(purpose, epoch, step)).part(part)
        dropout = None
        if settings.dropout > 0:
            purpose = "dropout" if self.group.writer else f"dropout of process {self.group.rank}"
            seed = derive(self.seed, purpose, epoch, step)
            dropout = Dropout(settings.dropout, settings.dropout_kind, seed, self.device)
        slot_graph: Tensor | None = None
        logged: dict[str, Tensor] = {}
        if terms:
            slot_graph, logged = self._slot_graph(index, slots, draws.masked, epoch, step)
        values = step_gradients(
            self.predictor,
            StepBatch(slots, draws, visible, slot_graph),
            Objective(settings.graph, weights, method.adj_threshold, settings.share_dropout, method.others),
            dropout=dropout,
            micro_batch=settings.micro_batch,
            total=across,
        )
        return values | logged

    def _slot_graph(
        self, index: np.ndarray, slots: Tensor, masked: Tensor, epoch: int, step: int
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """The step's graph (B,S,S), None if it is read from the main pass, and the values to log of it."""
        graph, source = self.settings.graph, graph_source(self.settings.graph.source)
        if source.reads_attention:
            return None, {}
        if source.network_purpose and self.side is None:
            if (epoch, step) != (self.method.start_epoch, 0):
                at = f"step {step} of epoch {epoch}"
                raise StoreError(f"the state before {at} lacks the network of source={graph.source}")
            self.side = self.make_side()
        truth = self.truth
        given = GraphInputs(
            predictor=self.predictor,
            settings=graph,
            history=slots[:, : self.settings.history_size],
            masked=masked,
            generator=lambda: self._rng(source.purpose, epoch, step),
            micro_batch=self.settings.micro_batch,
            network=None if self.side is None else self.side.model,
            touching=None if truth is None else lambda: truth.touching(index),
        )
        slot_graph = source.graph(given)
        return slot_graph, {} if self.side is None else self._learn_side(self.side, source, epoch, step)

    def _learn_side(self, side: SideNetwork, source: GraphSource, epoch: int, step: int) -> dict[str, Tensor]:
        """Every process trains the network on the same windows; then all take the first process's weights."""
        graph, rng = self.settings.graph, self._rng(f"{source.network_purpose} windows", epoch, step)
        drawn = torch.randint(self.windows.count, (source.windows(graph),), generator=rng).numpy()
        found = learn_side(side, graph, self.windows.tensor(drawn).to(self.device))
        self.group.spread(list(side.model.state_dict().values()))
        return {name: value / self.group.size for name, value in found.items()}

    def make_side(self) -> SideNetwork:
        return make_side(self.settings, self.settings.graph, self.width, self.seed, self.device)

    def schedule(self, epoch: int, step: int) -> None:
        set_rates(self.optimizers, self.settings, epoch * self.steps + step)

    def validate(self, epoch: int) -> dict[str, float]:
        errors = self.validation.errors(self.predictor, self.device)
        copying = self.validation.trivial["copy_last"]
        if errors["error"] > EXPLODED * copying > 0:
            raise Diverged(
                f"validation_error became {errors['error']:.3g} after epoch {epoch}, over {EXPLODED} times what repeating the "
                f"last frame gives ({copying:.3g})"
            )
        logged = {"validation_error": errors["error"], "validation_error_visible": errors["error_visible"]}
        return logged | self.validation.masked(self.predictor, self.device)

    def warning(self, epoch: int, validation: dict[str, float]) -> str | None:
        if 3 * (epoch + 1) <= self.settings.epochs:
            return None
        return worse_than_copying(validation["validation_error_visible"], self.validation.trivial["copy_last_visible"])

    def _rng(self, purpose: str, epoch: int, step: int) -> torch.Generator:
        return generator(self.seed, purpose, epoch, step)

    def _epoch_order(self, epoch: int) -> np.ndarray:
        """The numbers of the epoch's windows, in the order in which its steps read them."""
        if self._order[0] != epoch:
            order = torch.randperm(self.windows.count, generator=self._rng("order", epoch, 0))
            self._order = (epoch, order[: self.drawn].numpy())
        return self._order[1]


def worse_than_copying(error: float, copying: float) -> str | None:
    """A warning if the validation error, of visible slots, is above that of repeating the last frame."""
    if not error > copying > 0:
        return None
    return (
        f"the world model predicts worse than repeating the last frame: its validation error is {error / copying:.2f} times as "
        "large; lower the learning rate, or let it decay sooner (world_model.decay_steps)"
    )


class Validation:
    """The windows on which the world model is measured, and its errors and those of trivial predictions there."""

    def __init__(self, settings: WorldModelSettings, split: Split, num_masked_slots: int = 0) -> None:
        self.history, self.num_masked_slots, self.masking = settings.history_size, num_masked_slots, settings.masking
        self.windows = windows_of(settings, split)
        count = min(settings.windows.validation or self.windows.count, self.windows.count)
        chosen = torch.randperm(self.windows.count, generator=generator(0, "validation windows"))[:count]
        self.index = chosen.sort().values.numpy()

    def errors(self, predictor: Predictor, device: torch.device) -> dict[str, float]:
        """Mean squared error of the P predicted frames over all windows: of all slots, and of slots whose object is in view."""
        return self._mean("error", lambda history, _: predictor.predict(history.to(device)).cpu())

    def masked(self, predictor: Predictor, device: torch.device) -> dict[str, float]:
        """{"validation_masked"}: the mean squared error of masked slots in the history, frame 0 included, or {} if training
        masks none. On evenly spaced windows, under masks that are the same for all epochs and runs. It is only logged:
        later stages predict with no slot masked."""
        if not self.num_masked_slots:
            return {}
        index = self.index[:: -(-len(self.index) // MASKED_WINDOWS)]
        history = torch.from_numpy(self.windows.gather(index))[:, : self.history].to(device)
        slots = history.shape[2]
        # masks are drawn per window, unless training masks the same slots in every step
        masking = self.masking if self.masking.draw == "fixed" else dataclasses.replace(self.masking, draw="sample")
        rng = generator(0, "validation masks")
        masked = draw_masked(masking, self.num_masked_slots, len(index), slots, rng).to(device)
        with torch.no_grad():  # `forward` is not compiled: there are too few windows
            predicted = predictor.forward(history, masked, rows=slice(0, self.history * slots))
        errors = (predicted.view_as(history) - history).double().square().mean((1, 3))  # (B,S)
        return {"validation_masked": float(errors[masked].mean())}

    @cached_property
    def trivial(self) -> dict[str, float]:
        """The same errors, of repeating the last frame and of extrapolating the last two linearly."""
        copied = self._mean("copy_last", lambda h, p: h[:, -1:].expand(-1, p, -1, -1))
        return copied | self._mean("linear", _extrapolate)

    def _mean(self, name: str, predict: Any) -> dict[str, float]:
        total = seen = count = seen_count = 0.0
        for first in range(0, len(self.index), VALIDATION_BATCH):
            index = self.index[first : first + VALIDATION_BATCH]
            window = torch.from_numpy(self.windows.gather(index))
            visible = torch.from_numpy(self.windows.visible(index))[:, self.history :]
            history, truth = window[:, : self.history], window[:, self.history :]
            with torch.no_grad():
                error = (predict(history, truth.shape[1]) - truth).double().square().mean(-1)
            total, count = total + float(error.sum()), count + error.numel()
            seen, seen_count = seen + float((error * visible).sum()), seen_count + int(visible.sum())
        return {name: total / count, f"{name}_visible": seen / max(seen_count, 1)}


def _extrapolate(history: Tensor, frames: int) -> Tensor:
    """(B,H,S,D) → (B,frames,S,D), continuing the last step's change; copies of the last frame if H = 1."""
    change = history[:, -1:] - history[:, -2:-1] if history.shape[1] > 1 else torch.zeros_like(history[:, -1:])
    return history[:, -1:] + change * torch.arange(1, frames + 1, dtype=history.dtype)[:, None, None]


def windows_of(settings: WorldModelSettings, split: Split, store: str = "float32") -> Windows:
    """The split's windows, with `visible` where the data has it."""
    return Windows(
        split.slots,
        settings.history_size,
        settings.num_preds,
        settings.frameskip,
        settings.windows.all_starts,
        visible=split.visible,
        store=store,
    )


def train(
    settings: WorldModelSettings,
    method: Method,
    num_masked_slots: int,
    seed: int,
    dataset: Dataset,
    segment: Segment,
    *,
    context: BuildContext,
) -> dict[str, Any]:
    """Trains the epochs of the segment into `context.folder`.

    The loss terms act in the epochs ≥ method.start_epoch. Writes the state and `metrics.json`, and returns the latter:
    {"validation": {"error", "error_visible", "copy_last", "copy_last_visible", "linear", "linear_visible"}}, mean
    squared errors of the predicted frames. Raises SettingError before any work, Diverged, Interrupted.
    """
    with threads(context.threads):
        learner = WorldModelLearner(settings, method, num_masked_slots, seed, dataset, context.device)
        learner.join(context.group)
        train_segment(learner, segment, seed=seed, context=context)
        if not context.group.writer:
            return {}
        learner.model.eval()
        with learner.with_average():
            errors = learner.validation.errors(learner.predictor, learner.device)
        metrics = {"validation": errors | learner.validation.trivial}
    (context.folder / METRICS).write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return metrics


def measure(settings: WorldModelSettings, folder: Path, dataset: Dataset, *, context: BuildContext) -> dict[str, Any]:
    """The validation error of the weights in `folder`; writes metrics.json and returns its contents, as `train` does."""
    device = torch.device(context.device)
    with threads(context.threads):
        validation = Validation(settings, dataset.split("validation"))
        errors = validation.errors(load(folder, settings).to(device), device)
        metrics = {"validation": errors | validation.trivial}
    (context.folder / METRICS).write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return metrics
