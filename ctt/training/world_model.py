"""Training the world model: its steps, its optimizers and its validation."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctt.core.build_context import BuildContext
from ctt.core.errors import Diverged, SettingError, StoreError
from ctt.core.process_group import ProcessGroup
from ctt.data.dataset import Dataset
from ctt.models.dropout import Dropout
from ctt.models.graphs.graph_source import GraphInputs
from ctt.models.losses.objective import Objective, StepBatch
from ctt.models.losses.terms import step_gradients
from ctt.models.method import Method
from ctt.models.predictor import Predictor
from ctt.training.batches.window_batches import WindowBatch, WindowBatches
from ctt.training.learner import Learner, SideNetwork
from ctt.training.optimizers import optimizers_for, set_rates
from ctt.training.rollout import METRICS, load
from ctt.training.seeds import derive, generator
from ctt.training.slot_graphs import learn_side, make_side
from ctt.training.threads import threads
from ctt.training.trainer import Segment, train_segment
from ctt.training.training_settings import WorldModelSettings
from ctt.training.validation import Validation

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
        self.batches = WindowBatches(settings, method, num_masked_slots, seed, train, self.device)
        self.steps = self.batches.steps
        with torch.random.fork_rng():
            torch.manual_seed(derive(seed, "weights"))
            self.model = Predictor(settings, width).to(self.device)
        self.predictor: Predictor = self.model
        if settings.compile:
            self.model.compile_calls(settings.compile_mode)
        self.optimizers = optimizers_for(self.model, settings)
        self.average = settings.average
        self.validation = Validation(settings, dataset.split("validation"), num_masked_slots, self.device)

    @property
    def place(self) -> str | None:
        """Where the slots are, for the log; None on the CPU, where there is no choice."""
        if self.device.type == "cpu":
            return None
        return f"world_model.windows.device={self.settings.windows.device}: {self.batches.place}, {self.validation.place}"

    def join(self, group: ProcessGroup) -> None:
        """Shares the batches with the processes of `group`. Raises SettingError if there are more processes than windows."""
        if group.size > self.settings.batch_size:
            raise SettingError(f"world_model.batch_size {self.settings.batch_size} can't be shared by {group.size} processes")
        self.group = self.batches.group = group

    def gradients(self, epoch: int, step: int) -> dict[str, Tensor]:
        settings, method, batch = self.settings, self.method, self.batches.batch(epoch, step)
        weights = method.weights if method.active(epoch) else {}
        dropout = None
        if settings.dropout > 0:
            purpose = "dropout" if self.group.writer else f"dropout of process {self.group.rank}"
            seed = derive(self.seed, purpose, epoch, step)
            dropout = Dropout(settings.dropout, settings.dropout_kind, seed, self.device)
        slot_graph: Tensor | None = None
        logged: dict[str, Tensor] = {}
        if weights:
            slot_graph, logged = self._slot_graph(batch, epoch, step)
        values = step_gradients(
            self.predictor,
            StepBatch(batch.slots, batch.draws, batch.visible, slot_graph),
            Objective(settings.graph, weights, method.adj_threshold, settings.share_dropout, method.others),
            dropout=dropout,
            micro_batch=settings.micro_batch,
            total=None if self.group.size == 1 else self.group.total,
        )
        return values | logged

    def _slot_graph(self, batch: WindowBatch, epoch: int, step: int) -> tuple[Tensor | None, dict[str, Tensor]]:
        """The step's graph (B,S,S), None if it is read from the main pass, and the values to log of it."""
        graph, source, touching = self.settings.graph, self.batches.source, batch.touching
        if source.reads_attention:
            return None, {}
        if source.network_purpose and self.side is None:
            if (epoch, step) != (self.method.start_epoch, 0):
                at = f"step {step} of epoch {epoch}"
                raise StoreError(f"the state before {at} lacks the network of source={graph.source}")
            self.side = self.make_side()
        given = GraphInputs(
            predictor=self.predictor,
            settings=graph,
            history=batch.slots[:, : self.settings.history_size],
            masked=batch.draws.masked,
            generator=lambda: generator(self.seed, source.purpose, epoch, step),
            micro_batch=self.settings.micro_batch,
            network=None if self.side is None else self.side.model,
            touching=None if touching is None else lambda: touching,
            drawn=batch.drawn,
        )
        slot_graph = source.graph(given)
        if self.side is None or batch.learned is None:
            return slot_graph, {}
        return slot_graph, self._learn_side(self.side, batch.learned)

    def _learn_side(self, side: SideNetwork, windows: Tensor) -> dict[str, Tensor]:
        """Every process trains the network on the same windows; then all take the first process's weights."""
        found = learn_side(side, self.settings.graph, windows)
        self.group.spread(list(side.model.state_dict().values()))
        return {name: value / self.group.size for name, value in found.items()}

    def make_side(self) -> SideNetwork:
        return make_side(self.settings, self.settings.graph, self.width, self.seed, self.device)

    def schedule(self, epoch: int, step: int) -> None:
        set_rates(self.optimizers, self.settings, epoch * self.steps + step)

    def validate(self, epoch: int) -> dict[str, float]:
        errors = self.validation.with_masked(self.predictor)
        copying = self.validation.trivial["copy_last"]
        if errors["error"] > EXPLODED * copying > 0:
            raise Diverged(
                f"validation_error became {errors['error']:.3g} after epoch {epoch}, over {EXPLODED} times what repeating the "
                f"last frame gives ({copying:.3g})"
            )
        return {f"validation_{name}": value for name, value in errors.items()}

    def warning(self, epoch: int, validation: dict[str, float]) -> str | None:
        if 3 * (epoch + 1) <= self.settings.epochs:
            return None
        return worse_than_copying(validation["validation_error_visible"], self.validation.trivial["copy_last_visible"])


def worse_than_copying(error: float, copying: float) -> str | None:
    """A warning if the validation error, of visible slots, is above that of repeating the last frame."""
    if not error > copying > 0:
        return None
    return (
        f"the world model predicts worse than repeating the last frame: its validation error is {error / copying:.2f} times as "
        "large; lower the learning rate, or let it decay sooner (world_model.decay_steps)"
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
        context.report(learner.place)
        train_segment(learner, segment, seed=seed, context=context)
        if not context.group.writer:
            return {}
        learner.model.eval()
        with learner.with_average():
            errors = learner.validation.errors(learner.predictor)
        metrics = {"validation": errors | learner.validation.trivial}
        if learner.place is not None:
            del learner
            gc.collect()  # Lightning's objects form cycles that hold the slots on the device
    (context.folder / METRICS).write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return metrics


def measure(settings: WorldModelSettings, folder: Path, dataset: Dataset, *, context: BuildContext) -> dict[str, Any]:
    """The validation error of the weights in `folder`; writes metrics.json and returns its contents, as `train` does."""
    device = torch.device(context.device)
    with threads(context.threads):
        validation = Validation(settings, dataset.split("validation"), device=device)
        errors = validation.errors(load(folder, settings).to(device))
        metrics = {"validation": errors | validation.trivial}
    (context.folder / METRICS).write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return metrics
