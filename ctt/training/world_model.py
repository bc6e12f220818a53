"""Training the world model: its steps, its optimizers, and what its validation says."""

from __future__ import annotations

import dataclasses
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ctt.core.build_context import BuildContext
from ctt.core.errors import Diverged, SettingError, StoreError
from ctt.core.process_group import ProcessGroup
from ctt.data.dataset import Dataset, Split
from ctt.data.windows import Windows
from ctt.models.draws import draw_slots
from ctt.models.dropout import Dropout
from ctt.models.losses.terms import step_gradients
from ctt.models.masking import draw_masked
from ctt.models.method import Method
from ctt.models.predictor import Predictor
from ctt.training.learner import Learner, SideNetwork
from ctt.training.rollout import METRICS, load, roll_out
from ctt.training.seeds import derive, generator
from ctt.training.slot_graphs import Oracle, jacobian_of, learn_influence, learned_graph, make_influence
from ctt.training.threads import threads
from ctt.training.trainer import train_segment
from ctt.training.training_settings import WorldModelSettings

__all__ = ["load", "roll_out", "train"]
VALIDATION_BATCH = 256
MASKED_WINDOWS = 256
"""Validation windows whose masked slots are predicted too: one more pass over all of them would be a sixth of an epoch."""
EXPLODED = 1000
"""An error so many times that of repeating the last frame stops training, though it is a number still."""


class WorldModelLearner(Learner):
    """The predictor with its losses, as a segment trains it."""

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
            raise SettingError(
                f"world_model.batch_size {settings.batch_size} is more than the {self.drawn} windows of an epoch"
            )
        with torch.random.fork_rng():
            torch.manual_seed(derive(seed, "weights"))
            self.model = Predictor(settings, width).to(self.device)
        self.predictor: Predictor = self.model
        if settings.compile:
            self.model.compile()
        self.optimizers = optimizers_for(self.model, settings)
        self.average = settings.average
        self.oracle = None
        if settings.graph.source == "oracle" and method.active(settings.epochs - 1):
            self.oracle = Oracle(train, self.windows)
        self.validation = Validation(settings, dataset.split("validation"), num_masked_slots)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def join(self, world: ProcessGroup) -> None:
        """Shares the batches with the processes of `world`. Raises SettingError where that can't be."""
        if world.size > self.settings.batch_size:
            raise SettingError(
                f"world_model.batch_size {self.settings.batch_size} can't be shared by {world.size} processes"
            )
        self.world = world

    def gradients(self, epoch: int, step: int) -> dict[str, Tensor]:
        settings, method = self.settings, self.method
        size = settings.batch_size
        part, across = self.world.share(size), None if self.world.size == 1 else self.world.total
        index = self._epoch_order(epoch)[step * size : (step + 1) * size][part]
        slots = self.windows.tensor(index).to(self.device).float()
        visible = None
        if settings.loss_on == "visible":
            visible = torch.from_numpy(self.windows.visible(index)).to(self.device)
        inv, suf = (method.inv_weight, method.suf_weight) if method.active(epoch) else (0.0, 0.0)
        masked = draw_masked(
            settings.masking, self.num_masked_slots, size, self.slots, self._rng("masked", epoch, step)
        )
        draws = draw_slots(
            masked, inv > 0, suf > 0, settings.graph.scope, lambda purpose: self._rng(purpose, epoch, step)
        ).part(part)
        dropout = None
        if settings.dropout > 0:
            purpose = "dropout" if self.world.writer else f"dropout of process {self.world.rank}"
            seed = derive(self.seed, purpose, epoch, step)
            dropout = Dropout(settings.dropout, settings.dropout_kind, seed, self.device)
        given: Tensor | None = None
        beside: dict[str, Tensor] = {}
        if inv + suf > 0:
            given, beside = self._given_graph(index, slots, draws.masked, epoch, step)
        terms = step_gradients(
            self.predictor,
            slots,
            draws,
            inv_weight=inv,
            suf_weight=suf,
            threshold=method.adj_threshold,
            graph=settings.graph,
            share_dropout=settings.share_dropout,
            dropout=dropout,
            micro_batch=settings.micro_batch,
            visible=visible,
            given=given,
            across=across,
        )
        return terms | beside

    def _given_graph(
        self, index: np.ndarray, slots: Tensor, masked: Tensor, epoch: int, step: int
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """The step's graph where it is not read off the main pass, and what there is to log of it."""
        graph, history = self.settings.graph, slots[:, : self.settings.history_size]
        if graph.source == "jacobian":
            rng = self._rng("projections", epoch, step)
            return jacobian_of(self.predictor, graph, history, masked, rng, self.settings.micro_batch), {}
        if graph.source == "learned":
            if self.side is None:
                if (epoch, step) != (self.method.start_epoch, 0):
                    raise StoreError(
                        f"the state before step {step} of epoch {epoch} lacks the network of source=learned"
                    )
                self.side = self.make_side()
            given = learned_graph(self.side, history)
            return given, self._learn_influence(self.side, epoch, step)
        return (None if self.oracle is None else self.oracle.graph(index)), {}

    def _learn_influence(self, side: SideNetwork, epoch: int, step: int) -> dict[str, Tensor]:
        """Every process trains the network on the same windows; the first one's weights count."""
        learned = self.settings.graph.learned
        drawn = torch.randint(
            self.windows.count, (learned.windows,), generator=self._rng("influence windows", epoch, step)
        ).numpy()
        found = learn_influence(side, learned.price, self.windows.tensor(drawn).to(self.device))
        self.world.spread(list(side.model.state_dict().values()))
        return {name: value / self.world.size for name, value in found.items()}

    def make_side(self) -> SideNetwork:
        return make_influence(self.settings, self.settings.graph, self.width, self.seed, self.device)

    def schedule(self, epoch: int, step: int) -> None:
        if self.settings.decay_steps is not None:
            factor = 1 / (1 + (epoch * self.steps + step) / self.settings.decay_steps)
            rates = (self.settings.learning_rate, self.settings.muon_rate)
            for optimizer, rate in zip(self.optimizers, rates, strict=False):
                for group in optimizer.param_groups:
                    group["lr"] = rate * factor

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

    def _rng(self, purpose: str, epoch: int, step: int) -> torch.Generator:
        return generator(self.seed, purpose, epoch, step)

    def _epoch_order(self, epoch: int) -> np.ndarray:
        """The epoch's windows in the order in which its steps read them; the last partial batch is left out."""
        if self._order[0] != epoch:
            order = torch.randperm(self.windows.count, generator=self._rng("order", epoch, 0))
            self._order = (epoch, order[: self.drawn].numpy())
        return self._order[1]


class Validation:
    """The windows the world model is measured on, and what trivial predictions reach there."""

    def __init__(self, settings: WorldModelSettings, split: Split, num_masked_slots: int = 0) -> None:
        self.history, self.num_masked_slots, self.masking = settings.history_size, num_masked_slots, settings.masking
        self.windows = windows_of(settings, split)
        count = min(settings.windows.validation or self.windows.count, self.windows.count)
        chosen = torch.randperm(self.windows.count, generator=generator(0, "validation windows"))[:count]
        self.index = chosen.sort().values.numpy()

    def errors(self, predictor: Predictor, device: torch.device) -> dict[str, float]:
        """Mean squared error of the P predicted frames over all windows, overall and where the object is in view."""
        return self._mean("error", lambda history, _: predictor.predict(history.to(device)).cpu())

    def masked(self, predictor: Predictor, device: torch.device) -> dict[str, float]:
        """The other prediction loss, {"validation_masked"}, as training takes it of all cells: the error of slots that are
        hidden, frame 0 included, under masks that are the same for all epochs and runs. Evenly spread windows; {} if
        training hides none. Logged only: what readers of a state rely on is predicted with nothing hidden."""
        if not self.num_masked_slots:
            return {}
        index = self.index[:: -(-len(self.index) // MASKED_WINDOWS)]
        history = torch.from_numpy(self.windows.gather(index))[:, : self.history].to(device)
        slots = history.shape[2]
        # a choice for each window rather than one for all, unless training hides the same slots in every step
        each = self.masking if self.masking.draw == "fixed" else dataclasses.replace(self.masking, draw="sample")
        hidden = draw_masked(each, self.num_masked_slots, len(index), slots, generator(0, "validation masks")).to(
            device
        )
        with torch.no_grad():
            predicted = predictor.forward(
                history, hidden, rows=slice(0, self.history * slots)
            )  # too few to compile for
        errors = (predicted.view_as(history) - history).double().square().mean((1, 3))  # (B,S)
        return {"validation_masked": float(errors[hidden].mean())}

    @cached_property
    def trivial(self) -> dict[str, float]:
        """The same errors of repeating the last frame, and of extrapolating the last two."""
        return self._mean("copy_last", lambda h, p: h[:, -1:].expand(-1, p, -1, -1)) | self._mean(
            "linear", _extrapolate
        )

    def _mean(self, name: str, predict: Any) -> dict[str, float]:
        total = seen = cells = seen_cells = 0.0
        for first in range(0, len(self.index), VALIDATION_BATCH):
            index = self.index[first : first + VALIDATION_BATCH]
            window = torch.from_numpy(self.windows.gather(index))
            visible = torch.from_numpy(self.windows.visible(index))[:, self.history :]
            history, truth = window[:, : self.history], window[:, self.history :]
            with torch.no_grad():
                error = (predict(history, truth.shape[1]) - truth).double().square().mean(-1)
            total, cells = total + float(error.sum()), cells + error.numel()
            seen, seen_cells = seen + float((error * visible).sum()), seen_cells + int(visible.sum())
        return {name: total / cells, f"{name}_visible": seen / max(seen_cells, 1)}


def _extrapolate(history: Tensor, frames: int) -> Tensor:
    """(B,H,S,D) → (B,frames,S,D) by the last step's change; with one frame of history, a copy."""
    change = history[:, -1:] - history[:, -2:-1] if history.shape[1] > 1 else torch.zeros_like(history[:, -1:])
    return history[:, -1:] + change * torch.arange(1, frames + 1, dtype=history.dtype)[:, None, None]


def windows_of(settings: WorldModelSettings, split: Split, store: str = "float32") -> Windows:
    """The split's windows; `visible` is known to them where the data knows it."""
    return Windows(
        split.slots,
        settings.history_size,
        settings.num_preds,
        settings.frameskip,
        settings.windows.all_starts,
        visible=split.visible,
        store=store,
    )


def optimizers_for(model: nn.Module, settings: WorldModelSettings) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the layers' matrices and AdamW for the rest."""
    matrices = []
    if settings.optimizer == "muon":
        matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and name.startswith("transformer.layers.")]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    rate, decay = settings.learning_rate, settings.weight_decay
    made: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, lr=rate, weight_decay=decay, fused=True)]
    if matrices:
        made.append(torch.optim.Muon(matrices, lr=settings.muon_rate, weight_decay=decay))
    return made


def train(
    settings: WorldModelSettings,
    method: Method,
    num_masked_slots: int,
    seed: int,
    dataset: Dataset,
    *,
    start: Path | None = None,
    epoch_start: int = 0,
    epoch_end: int,
    context: BuildContext,
) -> dict[str, Any]:
    """Trains the epochs [epoch_start, epoch_end) from the state in `start` (None: initial weights) into `job.folder`.

    The CTT losses act in the epochs ≥ method.start_epoch. Writes the state and `metrics.json`, and returns the latter:
    {"validation": {"error", "error_visible", "copy_last", "copy_last_visible", "linear", "linear_visible"}}, mean
    squared errors of the predicted frames. Raises SettingError before any work, Diverged, Interrupted.
    """
    with threads(context.threads):
        learner = WorldModelLearner(settings, method, num_masked_slots, seed, dataset, context.device)
        learner.join(context.world)
        train_segment(learner, seed=seed, start=start, epoch_start=epoch_start, epoch_end=epoch_end, context=context)
        if not context.world.writer:
            return {}
        learner.model.eval()
        with learner.as_read():
            errors = learner.validation.errors(learner.predictor, learner.device)
        metrics = {"validation": errors | learner.validation.trivial}
    (context.folder / METRICS).write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return metrics
