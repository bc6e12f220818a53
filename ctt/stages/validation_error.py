"""Stage `world_model_error` (auxiliary): the validation error of imported weights, which training states have of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ctt.core.build_context import BuildContext
from ctt.core.settings import canonical_form, digest
from ctt.stages.auxiliary_stage import AuxiliaryStage
from ctt.stages.base import Stage
from ctt.stages.imported_weights import ImportedModel
from ctt.store import Artifact


@dataclasses.dataclass(frozen=True)
class ValidationError(AuxiliaryStage):
    """Measured as after a training, on the same windows."""

    kind = "world_model_error"
    version = 1
    label = "validation error"
    demo_seconds = {"stage": 2.0}
    state: ImportedModel

    def settings(self) -> Mapping[str, Any]:
        windows = canonical_form(self.state.world_model.windows)
        return {"windows": {name: windows[name] for name in ("all_starts", "validation") if name in windows}}

    def inputs(self) -> Mapping[str, Stage]:
        return {"data": self.state.data, "world_model": self.state}

    def cost_class(self) -> str:
        return digest([self.kind, self.version, self.settings(), self.state.alike])

    def execution(self) -> dict[str, int]:
        return {"threads": self.state.world_model.threads, "workers": 1}

    def build(self, context: BuildContext, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        from ctt.data.dataset import Dataset
        from ctt.training.world_model import measure

        measure(self.state.world_model, inputs["world_model"].path, Dataset.open(inputs["data"].path), context=context)
        return {}
