"""Stage `probe`: the fitted position reader of a data set, and its accuracy without a world model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ctt.core.build_context import BuildContext
from ctt.core.errors import DataError
from ctt.core.settings import canonical_form, digest
from ctt.data.positions.reader_settings import PositionReaderSettings, resolved
from ctt.stages.base import Stage
from ctt.stages.data import Data
from ctt.store import Artifact

FITTED = ("videos", "stride", "annotations")
"""The settings that decide the fit."""


@dataclasses.dataclass(frozen=True)
class ReaderFit(Stage):
    """Fitted once for a data set; the position reader of every run uses it."""

    kind = "probe"
    version = 1
    label = "position reader fit"
    published_seconds = {"videos": 0.02}
    demo_seconds = {"videos": 0.006}
    data: Data
    reader: PositionReaderSettings
    frames: int

    @classmethod
    def of(cls, data: Data, reader: PositionReaderSettings, frames: int) -> ReaderFit:
        """That of a data set, one object for all runs with these settings."""
        return reader.remembered(("stage", data.key, frames), lambda: cls(data, reader, frames))

    def settings(self) -> Mapping[str, Any]:
        reader = {name: value for name, value in canonical_form(self.reader).items() if name in FITTED}
        if self.data.data.source.has_truth:
            reader.pop("annotations", None)
        if self.reader.reach != "all":
            reader["levels"] = "with ancestry of events and words"
        return {"reader": reader, "frames": self.frames}

    def inputs(self) -> Mapping[str, Stage]:
        return {"data": self.data}

    def effort(self, start: Stage | None) -> dict[str, float]:
        return {"videos": float(self.reader.videos + self.data.data.validation)}

    def cost_class(self) -> str:
        return digest([self.kind, self.version, self.data.data.kind])

    def check(self) -> None:
        """Raises DataError if the annotations are missing or damaged, lack a video, or if no question can be read with them."""
        if self.data.data.source.annotated and self.data.data.annotation_files:
            from ctt.data.positions.unread import check_annotated

            check_annotated(self.reader, self.data.data)

    def check_unchanged(self) -> None:
        """Raises DataError if the annotations are not those of the key any more."""
        if resolved(self.reader, self.data.data) != self.reader:
            files = self.data.data.annotation_files
            raise DataError(f"the annotations changed since this run was planned ({files}); start it again")

    def build(self, context: BuildContext, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        from ctt.data.dataset import Dataset
        from ctt.data.positions.reference_levels import make

        self.check_unchanged()
        make(self.reader, Dataset.open(inputs["data"].path), self.data.data.annotation_files, self.frames, context)
        return {}
