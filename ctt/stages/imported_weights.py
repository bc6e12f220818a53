"""Imported weights in place of trained ones: the later stages accept both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctt.core.build_context import BuildContext
from ctt.core.errors import DataError
from ctt.core.settings import canonical_form
from ctt.data.data_settings import PROVISIONAL
from ctt.stages.base import Stage
from ctt.stages.vqa import Vqa
from ctt.stages.world_model import WorldModel
from ctt.store import Artifact

if TYPE_CHECKING:
    from ctt.training.published_checkpoint import Checkpoint

SHAPE = ("history_size", "num_preds", "frameskip", "depth", "heads", "mlp_width")
"""The settings needed to load a world model's weights."""


@dataclasses.dataclass(frozen=True)
class ImportedWeights(Stage):
    """A model that was trained elsewhere; `tensors` is the digest of its weights, `file` their path."""

    version = 1
    tensors: str = ""
    file: str = ""

    def inputs(self) -> Mapping[str, Stage]:
        return {}

    def effort(self, start: Stage | None) -> dict[str, float]:
        return {}

    @property
    def provisional(self) -> bool:
        """Whether the key does not identify the weights, because the file is missing."""
        return self.tensors.startswith(PROVISIONAL)

    def check(self) -> None:
        """Raises DataError if the file is missing."""
        if not Path(self.file).expanduser().is_file():
            raise DataError(f"{self.file} is missing; `ctt data fetch checkpoints` downloads the published ones")

    def model(self, checkpoint: Checkpoint) -> Any:
        """The model with the file's tensors. Raises DataError if they do not fit the settings."""
        raise NotImplementedError

    def build(self, context: BuildContext, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        from ctt.training.published_checkpoint import read, save

        self.check()
        found = read(Path(self.file).expanduser())
        if found.digest != self.tensors:
            raise DataError(f"{self.file} has other weights than when the sweep was compiled; start the sweep again")
        save(self.model(found), context.folder)
        return {"file": Path(self.file).name}


@dataclasses.dataclass(frozen=True)
class ImportedModel(ImportedWeights, WorldModel):
    """A world model; no training continues from it, and it continues from none."""

    def settings(self) -> Mapping[str, Any]:
        return {"imported": self.tensors, "world_model": {name: getattr(self.world_model, name) for name in SHAPE}}

    def continues(self) -> Sequence[Stage]:
        return []

    def model(self, checkpoint: Checkpoint) -> Any:
        from ctt.training.published_checkpoint import predictor_of

        return predictor_of(checkpoint, self.world_model, self.data.data.format)


@dataclasses.dataclass(frozen=True)
class ImportedAloe(ImportedWeights, Vqa):
    """An ALOE that answers the questions of other runs (as the baseline's does in screening); it has no answers of its own."""

    def settings(self) -> Mapping[str, Any]:
        aloe = {name: value for name, value in canonical_form(self.aloe).items() if name != "tensors"}
        return {"imported": self.tensors, "aloe": aloe}

    def model(self, checkpoint: Checkpoint) -> Any:
        from ctt.training.published_checkpoint import aloe_of

        return aloe_of(checkpoint, self.aloe, self.rollout.data.data.format)
