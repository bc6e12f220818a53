"""Stage `reader` (auxiliary): questions answered from the object positions in a rollout."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ctt.core.build_context import BuildContext
from ctt.core.settings import canonical_form, digest
from ctt.data.positions.reader_settings import PositionReaderSettings, positions_known
from ctt.models.model_settings import GraphSettings
from ctt.stages.auxiliary_stage import AuxiliaryStage
from ctt.stages.base import Stage
from ctt.stages.columns import PER_OPTION, Column
from ctt.stages.graph_read import graph_settings
from ctt.stages.main_line import MainLine
from ctt.stages.reader_fit import ReaderFit
from ctt.stages.rollout import Rollout
from ctt.store import Artifact

REFERENCE_LEVELS = {
    "true_future": "true future",
    "linear": "linear extrapolation",
    "copy_last": "copy of the last frame",
    "unchanged": "object not removed",
    "ancestry": "ancestry, true future",
    "words": "the question's words alone",
}
"""File stem (ctt/data/positions/reference_levels.py): label in a table."""


LATER = ("ancestry", "words")
"""Those that stores of versions before 0.2 do not have."""
OWN = "levels/ancestry_of_rollout/"
ANCESTRY = "ancestry, seen and rolled out"
"""Where a run's own level is in its metrics.json, and what a table calls it."""


@dataclasses.dataclass(frozen=True)
class PositionReader(AuxiliaryStage):
    """Predictive questions from the rolled-out frames; counterfactual ones from videos imagined without the removed object."""

    kind = "reader"
    version = 1
    label = "position reader"
    published_seconds = {"videos": 0.02}
    demo_seconds = {"videos": 0.0235}
    title = "Position reader (% of questions, answered from rollouts without ALOE)"
    settings_class = PositionReaderSettings
    answers = "answers.parquet"
    columns = (
        Column("predictive", unit="%", better="higher", digits=1, answers=True),
        Column("counterfactual", unit="%", better="higher", digits=1, answers=True),
        Column(f"predictive{PER_OPTION}", unit="%", better="higher", digits=1, answers=True, shown=False),
        Column(f"counterfactual{PER_OPTION}", unit="%", better="higher", digits=1, answers=True),
        Column(f"{OWN}per_question/counterfactual", ANCESTRY, unit="%", digits=1, level="counterfactual"),
        Column(f"{OWN}per_option/counterfactual", ANCESTRY, unit="%", digits=1, level=f"counterfactual{PER_OPTION}"),
    )
    rollout: Rollout
    probe: ReaderFit
    reader: PositionReaderSettings
    graph: GraphSettings | None = None
    """The slot graph that reader.reach=graph reads, and its threshold: the run's own, whether or not losses read it too."""
    threshold: float = 0.0

    @classmethod
    def of(cls, settings: PositionReaderSettings, line: MainLine) -> PositionReader | None:
        data, frames = line.data, line.rollout.rollout.frames
        if not settings.enabled or not positions_known(settings, data.data):
            return None
        probe = ReaderFit.of(data, settings, frames)
        if not (settings.interventions and settings.reach == "graph"):
            return cls(line.rollout, probe, settings)
        state = line.world_model
        return cls(line.rollout, probe, settings, state.world_model.graph, state.method.adj_threshold)

    def references(self) -> Mapping[str, tuple[Stage, str]]:
        old = self.reader.reach == "all"
        found = {stem: label for stem, label in REFERENCE_LEVELS.items() if not (old and stem in LATER)}
        return {label: (self.probe, f"{stem}.parquet") for stem, label in found.items()}

    def settings(self) -> Mapping[str, Any]:
        found: dict[str, Any] = {"interventions": self.reader.interventions}
        if (reach := canonical_form(self.reader).get("reach")) is not None:
            found |= {"reach": reach, "levels": "ancestry of events"}
        return found | graph_settings(self.graph, self.threshold)

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
        return digest([self.kind, self.version, self.rollout.alike, *self.settings().values()])

    def execution(self) -> dict[str, int]:
        return {"threads": self.rollout.world_model.world_model.threads, "workers": 1}

    def build(self, context: BuildContext, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        import numpy as np

        from ctt.data.dataset import Dataset
        from ctt.data.positions.reference_levels import SPLIT
        from ctt.training.positions.position_reader import read
        from ctt.training.slot_graphs import SlotGraph

        read(
            self.reader,
            self.rollout.world_model.world_model,
            None if self.graph is None else SlotGraph(self.graph, self.threshold),
            self.rollout.rollout,
            inputs["probe"].path,
            inputs["world_model"].path,
            np.load(inputs["rollout"].path / f"rollout_{SPLIT}.npy", mmap_mode="r"),
            Dataset.open(inputs["data"].path),
            context=context,
        )
        return {}


STAGE = PositionReader
