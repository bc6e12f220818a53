"""Imported weights in the place of trained ones, so that the stages that follow a training follow them too."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctt.core.build_context import BuildContext
from ctt.core.settings import canonical_form
from ctt.stages.base import Stage
from ctt.stages.vqa import Vqa
from ctt.stages.world_model import WorldModel
from ctt.store import Artifact

if TYPE_CHECKING:
    from ctt.training.published_checkpoint import Checkpoint

SHAPE = ("history_size", "num_preds", "frameskip", "depth", "heads", "mlp_width")
"""What a world model's weights are read with."""


@dataclasses.dataclass(frozen=True)
class ImportedWeights(Stage):
    """A model that was trained elsewhere, known by its tensors; `file` is where they are found."""

    version = 1
    tensors: str = ""
    file: str = ""

    def inputs(self) -> Mapping[str, Stage]:
        return {}

    def model(self, checkpoint: Checkpoint) -> Any:
        """The model that the file's tensors make. Raises DataError where they do not fit the settings."""
        raise NotImplementedError

    def build(
        self, context: BuildContext, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None
    ) -> dict[str, Any]:
        from ctt.training.published_checkpoint import read, save

        save(self.model(read(Path(self.file))), context.folder)
        return {"file": Path(self.file).name}


@dataclasses.dataclass(frozen=True)
class ImportedModel(ImportedWeights, WorldModel):
    """A world model, which others continue from no more than it continues from others."""

    def settings(self) -> Mapping[str, Any]:
        return {"imported": self.tensors, "world_model": {name: getattr(self.world_model, name) for name in SHAPE}}

    def continues(self) -> Sequence[Stage]:
        return []

    def model(self, checkpoint: Checkpoint) -> Any:
        from ctt.training.published_checkpoint import predictor_of

        return predictor_of(checkpoint, self.world_model)


@dataclasses.dataclass(frozen=True)
class ImportedAloe(ImportedWeights, Vqa):
    """An ALOE: it teaches, as the baseline's does in screening, and has answered nothing itself."""

    def settings(self) -> Mapping[str, Any]:
        return {"imported": self.tensors, "aloe": canonical_form(self.aloe)}

    def model(self, checkpoint: Checkpoint) -> Any:
        from ctt.training.published_checkpoint import aloe_of

        return aloe_of(checkpoint, self.aloe)
