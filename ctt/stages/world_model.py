"""Stage `world_model`: a training state, addressed by what it is and not by how it was reached.

State e is the world model after e completed epochs. Losses with start s act in the epochs that follow state s, so up to
there every run of a seed has the same states, whatever its losses; runs that differ fork at s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from ctt.data.dataset import Dataset
from ctt.job import Job
from ctt.models.graph import READ
from ctt.models.losses import Method
from ctt.settings import canonical, canonical_json, digest
from ctt.stages.base import Stage
from ctt.stages.data import Data
from ctt.store import Artifact
from ctt.training.settings import TrainingSettings, WorldModelSettings


@dataclasses.dataclass(frozen=True)
class WorldModel(Stage):
    """State `epoch` of a world model trained with `method`; `fork_epochs` are the states to keep on the way."""

    kind = "world_model"
    version = 1
    data: Data
    world_model: WorldModelSettings
    method: Method
    num_masked_slots: int
    seed: int
    epoch: int
    fork_epochs: tuple[int, ...] = ()
    alone: str = ""  # with sharing=off: the run's name, so that no other run finds this state

    def inputs(self) -> Mapping[str, Stage]:
        return {"data": self.data}

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """The training cut off at `epoch`: what is not read up to there is no part of the state."""
        settings = canonical(self._training) | {"seed": self.seed}
        del settings["data"]  # an input
        return {**settings, "alone": self.alone} if self.alone else settings

    @property
    def _training(self) -> TrainingSettings:
        """Kept with the settings it is made of: the states of a sweep's seeds differ in little else."""
        method = self.method
        flags = (method.inv_weight, method.suf_weight, method.adj_threshold, method.start_epoch)
        return self.world_model.remembered(
            (flags, self.num_masked_slots, self.epoch, self.data.data.kind),
            lambda: TrainingSettings(
                *flags,
                num_masked_slots=self.num_masked_slots,
                data=self.data.data,
                world_model=dataclasses.replace(self.world_model, epochs=self.epoch),
            ),
        )

    def settings(self) -> Mapping[str, Any]:
        return self._settings

    @property
    def lossy(self) -> bool:
        """Whether a CTT loss has acted on the way to this state."""
        return "ctt_inv_weight" in self._settings

    @cached_property
    def course(self) -> str:
        """Equal for states of trainings that differ in their length alone."""
        world_model = {k: v for k, v in self._settings["world_model"].items() if k != "epochs"}
        return canonical_json({**self._settings, "world_model": world_model, "data": self.data.key})

    def at(self, epoch: int) -> WorldModel:
        """The state of the same training after `epoch` epochs."""
        return dataclasses.replace(self, epoch=epoch, fork_epochs=tuple(e for e in self.fork_epochs if e < epoch))

    def continues(self) -> Sequence[Stage]:
        return [self.at(e) for e in range(self.epoch - 1, 0, -1)]

    def forks(self) -> Sequence[Stage]:
        return [self.at(e) for e in sorted(self.fork_epochs, reverse=True) if 0 < e < self.epoch][:1]

    def effort(self, start: Stage | None) -> dict[str, float]:
        """Epochs by how many of the two losses act in them."""
        first = start.epoch if isinstance(start, WorldModel) else 0
        lossy = max(0, self.epoch - max(first, self.method.start_epoch)) if self.lossy else 0
        both = bool(self.method.inv_weight and self.method.suf_weight)
        return {
            "plain": float(self.epoch - first - lossy),
            "one": 0.0 if both else float(lossy),
            "both": float(lossy) if both else 0.0,
        }

    def alike(self) -> str:
        """Threads included: they are no part of a key, but of a cost."""
        settings = {k: v for k, v in canonical(self.world_model).items() if k not in ("epochs", "graph", "masking")}
        size = self.data.data.train
        graph = self.world_model.graph
        source = [graph.source, graph.projections] if self.lossy and graph.source not in READ else []
        return digest(
            [self.kind, self.version, settings, self.world_model.threads, self.num_masked_slots, size, *source]
        )

    def execution(self) -> dict[str, int]:
        return {"threads": self.world_model.threads, "workers": 1}

    def build(self, job: Job, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        from ctt.training.world_model import train

        first, folder = (0, None)
        if start is not None:
            state, artifact = start
            assert isinstance(state, WorldModel)
            first, folder = state.epoch, artifact.path
        train(
            self.world_model,
            self.method,
            self.num_masked_slots,
            self.seed,
            Dataset.open(inputs["data"].path),
            start=folder,
            epoch_start=first,
            epoch_end=self.epoch,
            job=job,
        )
        return {"epochs": self.epoch - first}
