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
from ctt.models.losses import Method, rules_in_force
from ctt.settings import canonical, digest
from ctt.stages.base import Stage
from ctt.stages.data import Data
from ctt.store import Artifact
from ctt.training.settings import WorldModelSettings


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
        settings = state_settings(self.world_model, self.method, self.num_masked_slots, self.seed, self.epoch)
        return {**settings, "alone": self.alone} if self.alone else settings

    def settings(self) -> Mapping[str, Any]:
        return self._settings

    @property
    def lossy(self) -> bool:
        """Whether a CTT loss has acted on the way to this state."""
        return bool(self._settings["losses"])

    def graph_settings(self) -> Any:
        """What, besides the losses' weights, only lossy epochs read."""
        return [self._settings["world_model"].get(name) for name in ("graph", "share_dropout")]

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
        return digest([self.kind, self.version, settings, self.world_model.threads, self.num_masked_slots, size])

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


def state_settings(
    world_model: WorldModelSettings, method: Method, num_masked_slots: int, seed: int, epoch: int
) -> dict[str, Any]:
    """What state `epoch` is: the settings that are live up to there; silenced ones say nothing and are left out."""
    settings = canonical(world_model)
    settings.pop("epochs")
    losses = {f"ctt_{name}": value for name, value in canonical(method).items()}
    for rule in rules_in_force(method, epoch):
        for name in rule.silences:
            losses.pop(name, None)
            if name.startswith("world_model."):
                _drop(settings, name.removeprefix("world_model.").split("."))
    if not losses.get("ctt_inv_weight") and not losses.get("ctt_suf_weight"):
        losses = {}
    return {
        "world_model": settings,
        "losses": losses,
        "num_masked_slots": num_masked_slots,
        "seed": seed,
        "epoch": epoch,
    }


def _drop(settings: dict[str, Any], path: list[str]) -> None:
    for name in path[:-1]:
        settings = settings.get(name, {})
    settings.pop(path[-1], None)
