"""Stage `rollout`: the frames after the given ones of every video, predicted by a training state."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ctt.core.build_context import BuildContext
from ctt.core.settings import digest
from ctt.models.model_settings import RolloutSettings
from ctt.stages.base import Stage
from ctt.stages.data import Data
from ctt.stages.world_model import WorldModel
from ctt.store import Artifact


@dataclasses.dataclass(frozen=True)
class Rollout(Stage):
    """Predicted frames only; the given ones stay in the data set. Cheap to rebuild, so gc deletes rollouts first."""

    kind = "rollout"
    version = 1
    published_seconds = {"stage": 58.0}  # 20,000 videos, written to disk
    demo_seconds = {"stage": 5.1}
    state: WorldModel
    rollout: RolloutSettings

    @property
    def world_model(self) -> WorldModel:
        return self.state

    @property
    def data(self) -> Data:
        return self.state.data

    def settings(self) -> Mapping[str, Any]:
        return {"rollout": self.rollout}

    def inputs(self) -> Mapping[str, Stage]:
        return {"data": self.data, "world_model": self.world_model}

    def cost_class(self) -> str:
        state, counts = self.state.alike, self.data.data.counts()
        return self.rollout.remembered(
            ("cost class", state, *counts.values()),
            lambda: digest([self.kind, self.version, self.rollout, state, counts]),
        )

    def size(self) -> float:
        data = self.data.data
        numbers = sum(data.counts().values()) * self.rollout.frames * data.format.slots * data.format.width
        return float(numbers * self.rollout.number_bytes)

    def execution(self) -> dict[str, int]:
        return {"threads": self.state.world_model.threads, "workers": 1}

    def build(self, context: BuildContext, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        from ctt.data.dataset import Dataset
        from ctt.training.rollout import roll_out

        roll_out(
            self.state.world_model,
            self.rollout,
            inputs["world_model"].path,
            Dataset.open(inputs["data"].path),
            context=context,
        )
        return {}
