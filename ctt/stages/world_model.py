"""Stage `world_model`: a training state, identified by what it is and not by how it was reached.

State e is the world model after e completed epochs. Losses with start s act in the epochs after state s: up to s, runs
that differ only in their losses have the same states (the shared prefix); s is their branch point.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from ctt.core.build_context import BuildContext
from ctt.core.settings import CanonicalForm, canonical_form, canonical_json, digest
from ctt.models.graphs.graph_source import graph_source
from ctt.models.losses.loss_term import acting
from ctt.models.method import Method
from ctt.models.model_settings import GraphSettings
from ctt.models.plugins import plugins_in
from ctt.stages.base import Stage
from ctt.stages.data import Data
from ctt.stages.sizes import bytes_of_training, layers
from ctt.store import Artifact
from ctt.training.training_settings import TrainingSettings, WorldModelSettings

MORE_PASSES = " more passes"
"""Ends the unit of effort of epochs whose losses add another number of passes than one or two."""


@dataclasses.dataclass(frozen=True)
class WorldModel(Stage):
    """State `epoch` of a world model trained with `method`; `prefix` is the last state before it that other runs share."""

    kind = "world_model"
    distributed = True
    resumes = True
    version = 1
    published_seconds = {"plain": 42.0, "one": 83.0, "both": 124.0}  # an epoch of 10,000 videos; one: interpolated
    demo_seconds = {"plain": 4.4, "one": 6.5, "both": 8.6}
    data: Data
    world_model: WorldModelSettings
    method: Method
    num_masked_slots: int
    seed: int
    epoch: int
    prefix: WorldModel | None = None
    alone: str = ""  # with sharing=off: the run's name, so that no other run has this key

    def inputs(self) -> Mapping[str, Stage]:
        return {"data": self.data}

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return CanonicalForm(self._form[0] | {"seed": self.seed} | ({"alone": self.alone} if self.alone else {}))

    @property
    def _form(self) -> tuple[dict[str, Any], str]:
        """The settings that have an effect up to `epoch`, without the seed, and their JSON without the number of epochs.

        Cached in the settings: the states of a sweep's seeds share them.
        """
        method, masked, data = self.method, self.num_masked_slots, self.data.data
        flags = method.flags

        def made() -> tuple[dict[str, Any], str]:
            world_model = dataclasses.replace(self.world_model, epochs=self.epoch)
            training = TrainingSettings(**flags, num_masked_slots=masked, data=data, world_model=world_model)
            form = canonical_form(training).without("seed", "data")  # data is an input
            form |= {"plugins": found} if (found := plugins_in(form)) else {}
            length = {k: v for k, v in form["world_model"].items() if k != "epochs"}
            return form, canonical_json({**form, "world_model": length})

        return self.world_model.remembered((tuple(flags.items()), masked, self.epoch, data.kind), made)

    def settings(self) -> Mapping[str, Any]:
        return self._settings

    def measured(self) -> tuple[WorldModelSettings, Method]:
        """The settings whose graph and losses are measured: its own, and defaults for those that had no effect on it."""
        if not self.lossy:
            return dataclasses.replace(self.world_model, graph=GraphSettings(), share_dropout=True), Method()
        compares = any(term.compares for term, _ in acting(self.method.weights))
        share = self.world_model.share_dropout or not compares
        return dataclasses.replace(self.world_model, share_dropout=share), self.method

    @property
    def lossy(self) -> bool:
        """Whether a loss term acted in the training of this state."""
        return "ctt_inv_weight" in self._settings

    @property
    def course(self) -> tuple[str, int, str, str]:
        """Equal for states of trainings that differ only in their length."""
        return self._form[1], self.seed, self.alone, self.data.key

    @property
    def branch_epochs(self) -> tuple[int, ...]:
        """The epochs of the shared prefix's states, in order."""
        return (*self.prefix.branch_epochs, self.prefix.epoch) if self.prefix is not None else ()

    def at(self, epoch: int) -> WorldModel:
        """The state of the same training after `epoch` epochs."""
        prefix = self.prefix
        while prefix is not None and prefix.epoch >= epoch:
            prefix = prefix.prefix
        return dataclasses.replace(self, epoch=epoch, prefix=prefix)

    def through(self, epochs: Sequence[int]) -> WorldModel:
        """The same state, with branch points after the given epochs; their states are kept."""
        prefix = None
        for epoch in sorted(e for e in epochs if 0 < e < self.epoch):
            prefix = dataclasses.replace(self, epoch=epoch, prefix=prefix)
        return dataclasses.replace(self, prefix=prefix)

    def continues(self) -> Sequence[Stage]:
        return [self.at(e) for e in range(self.epoch - 1, 0, -1)]

    def branch_points(self) -> Sequence[Stage]:
        return [self.prefix] if self.prefix is not None else []

    def effort(self, start: Stage | None) -> dict[str, float]:
        """Numbers of epochs, by the passes over a batch that the losses acting in them add: one, both (two), or the number."""
        first = start.epoch if isinstance(start, WorldModel) else 0
        lossy = max(0, self.epoch - max(first, self.method.start_epoch)) if self.lossy else 0
        passes = sum(term.passes for term, _ in acting(self.method.weights))
        unit = {"0": "one", "1": "one", "2": "both"}.get(f"{passes:g}", f"{passes:g}{MORE_PASSES}")
        return {"plain": float(self.epoch - first - lossy), "one": 0.0, "both": 0.0, unit: float(lossy)}

    def cost_class(self) -> str:
        """Includes the number of threads, which affects the cost but not the key."""
        model, masked, size = self.world_model, self.num_masked_slots, self.data.data.train
        computed = self.lossy and not graph_source(model.graph.source).reads_attention
        source = (model.graph.source, model.graph.projections) if computed else ()
        sizes = self.data.data.format.other_sizes

        def made() -> str:
            settings = {k: v for k, v in canonical_form(model).items() if k not in ("epochs", "graph", "masking")}
            return digest([self.kind, self.version, settings, model.threads, masked, size, *source, *sizes])

        return model.remembered(("cost class", masked, size, *source, *sizes), made)

    def weights(self) -> int:
        return layers(self.world_model.depth, self.data.data.format.width, self.world_model.mlp_width)

    def size(self) -> float:
        """Weights, their average if there is one, and the optimizer's state."""
        model, width = self.world_model, self.data.data.format.width
        return bytes_of_training(self.weights() + 2 * width * width, model.optimizer == "muon", model.average is not None)

    def execution(self) -> dict[str, int]:
        return {"threads": self.world_model.threads, "workers": 1}

    def build(self, context: BuildContext, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        from ctt.data.dataset import Dataset
        from ctt.training.trainer import Segment
        from ctt.training.world_model import train, worse_than_copying

        first, folder = (0, None)
        if start is not None:
            state, artifact = start
            assert isinstance(state, WorldModel)
            first, folder = state.epoch, artifact.path
        trained = train(
            self.world_model,
            self.method,
            self.num_masked_slots,
            self.seed,
            Dataset.open(inputs["data"].path),
            Segment(self.epoch, first, folder),
            context=context,
        )
        errors = trained.get("validation")
        worse = errors and worse_than_copying(errors["error_visible"], errors["copy_last_visible"])
        return {"epochs": self.epoch - first} | ({"warning": worse} if worse else {})
