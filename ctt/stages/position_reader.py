"""Stage `reader` (auxiliary): questions answered from the object positions in a rollout."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ctt.core.build_context import BuildContext
from ctt.core.settings import digest
from ctt.data.dataset import Dataset
from ctt.data.positions.linear_reader import PositionReaderSettings
from ctt.stages.base import Stage
from ctt.stages.reader_fit import ReaderFit
from ctt.stages.rollout import Rollout
from ctt.store import Artifact


@dataclasses.dataclass(frozen=True)
class PositionReader(Stage):
    """Predictive questions from the rolled-out frames; counterfactual ones from rollouts without the removed object."""

    kind = "reader"
    version = 1
    rollout: Rollout
    probe: ReaderFit
    reader: PositionReaderSettings

    def settings(self) -> Mapping[str, Any]:
        return {"interventions": self.reader.interventions}

    def inputs(self) -> Mapping[str, Stage]:
        return {
            "data": self.rollout.data,
            "world_model": self.rollout.world_model,
            "rollout": self.rollout,
            "probe": self.probe,
        }

    def effort(self, start: Stage | None) -> dict[str, float]:
        return {"videos": float(self.rollout.data.data.validation)}

    def cost_class(self) -> str:
        return digest([self.kind, self.version, self.rollout.cost_class(), self.reader.interventions])

    def execution(self) -> dict[str, int]:
        return {"threads": self.rollout.world_model.world_model.threads, "workers": 1}

    def build(self, context: BuildContext, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        from ctt.data.positions.reference_levels import SPLIT
        from ctt.training.position_reader import read

        read(
            self.reader,
            self.rollout.world_model.world_model,
            self.rollout.rollout,
            inputs["probe"].path,
            inputs["world_model"].path,
            np.load(inputs["rollout"].path / f"rollout_{SPLIT}.npy", mmap_mode="r"),
            Dataset.open(inputs["data"].path),
            context=context,
        )
        return {}
