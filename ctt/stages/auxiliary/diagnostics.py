"""Stage `diagnostics` (auxiliary): properties of the slot graphs of a training state, and what its losses measure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ctt.core.build_context import BuildContext
from ctt.core.settings import digest
from ctt.stages.auxiliary_stage import AuxiliaryStage
from ctt.stages.base import Stage
from ctt.stages.main_line import MainLine
from ctt.stages.world_model import WorldModel
from ctt.store import Artifact
from ctt.training.diagnostics_settings import DiagnosticsSettings


@dataclasses.dataclass(frozen=True)
class Diagnostics(AuxiliaryStage):
    """Measured on a saved state, never during training, so that no state's key depends on it."""

    kind = "diagnostics"
    version = 2
    demo_seconds = {"stage": 1.0}
    settings_class = DiagnosticsSettings
    state: WorldModel
    diagnostics: DiagnosticsSettings

    @classmethod
    def of(cls, settings: DiagnosticsSettings, line: MainLine) -> Diagnostics | None:
        return cls(line.world_model, settings) if settings.enabled else None

    def settings(self) -> Mapping[str, Any]:
        return {"diagnostics": self.diagnostics}

    def inputs(self) -> Mapping[str, Stage]:
        return {"data": self.state.data, "world_model": self.state}

    def cost_class(self) -> str:
        alike = self.state.alike
        return self.diagnostics.remembered(
            ("cost class", alike), lambda: digest([self.kind, self.version, self.diagnostics, alike])
        )

    def execution(self) -> dict[str, int]:
        return {"threads": self.state.world_model.threads, "workers": 1}

    def build(self, context: BuildContext, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        from ctt.data.dataset import Dataset
        from ctt.training.diagnostics import diagnose

        world_model, method = self.state.measured()
        found = diagnose(
            world_model,
            method,
            self.state.num_masked_slots,
            self.state.seed,
            self.diagnostics,
            inputs["world_model"].path,
            Dataset.open(inputs["data"].path),
            context=context,
        )
        own = found["readings"].get(found["own"], {})
        return {"warning": own.get("warning") if found["acting"] else None}


STAGE = Diagnostics
