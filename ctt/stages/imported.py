"""Imported weights in the place of trained ones, so that the stages that follow a training follow them too."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctt.job import Job
from ctt.settings import canonical
from ctt.stages.base import Stage
from ctt.stages.vqa import Vqa
from ctt.stages.world_model import WorldModel
from ctt.store import Artifact

SHAPE = ("history_size", "num_preds", "frameskip", "depth", "heads", "mlp_width")
"""What a world model's weights are read with."""


@dataclasses.dataclass(frozen=True)
class ImportedModel(WorldModel):
    """A world model that was trained elsewhere, known by its tensors; `file` is where they are found."""

    version = 1
    tensors: str = ""
    file: str = ""

    def inputs(self) -> Mapping[str, Stage]:
        return {}

    def settings(self) -> Mapping[str, Any]:
        return {"imported": self.tensors, "world_model": {name: getattr(self.world_model, name) for name in SHAPE}}

    def continues(self) -> Sequence[Stage]:
        return []

    def build(self, job: Job, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        from ctt.training.checkpoint import predictor_of, read, save

        save(predictor_of(read(Path(self.file)), self.world_model), job.folder)
        return {"file": Path(self.file).name}


@dataclasses.dataclass(frozen=True)
class ImportedAloe(Vqa):
    """An ALOE that was trained elsewhere: it teaches, as the baseline's does in screening, and has answered nothing itself."""

    version = 1
    tensors: str = ""
    file: str = ""

    def inputs(self) -> Mapping[str, Stage]:
        return {}

    def settings(self) -> Mapping[str, Any]:
        return {"imported": self.tensors, "aloe": canonical(self.aloe)}

    def build(self, job: Job, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        from ctt.training.checkpoint import aloe_of, read, save

        save(aloe_of(read(Path(self.file)), self.aloe), job.folder)
        return {"file": Path(self.file).name}
