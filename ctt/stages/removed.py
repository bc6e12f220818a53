"""Stage `removed`: which object each counterfactual question removes, and which of them are to be imagined; of the data alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ctt.core.build_context import BuildContext
from ctt.core.settings import digest
from ctt.stages.base import Stage
from ctt.stages.data import Data
from ctt.stages.reader_fit import ReaderFit
from ctt.store import Artifact


@dataclasses.dataclass(frozen=True)
class RemovedObjects(Stage):
    """Found once for a data set; the imagined videos of every run, and its ALOE, read it."""

    kind = "removed"
    version = 1
    label = "removed objects"
    published_seconds = {"videos": 0.01}
    demo_seconds = {"videos": 0.0012}
    probe: ReaderFit

    @property
    def data(self) -> Data:
        return self.probe.data

    def settings(self) -> Mapping[str, Any]:
        return {}

    def inputs(self) -> Mapping[str, Stage]:
        return {"data": self.data, "probe": self.probe}

    def effort(self, start: Stage | None) -> dict[str, float]:
        return {"videos": float(self.data.data.train + self.data.data.validation)}

    def cost_class(self) -> str:
        return digest([self.kind, self.version, self.data.data.kind])

    def size(self) -> float:
        return 100.0 * sum(self.effort(None).values())

    def check(self) -> None:
        """Raises DataError if annotations of videos or programs of questions are missing, or do not belong together."""
        if self.data.data.source.annotated and self.data.data.annotation_files:
            from ctt.data.positions.removed_objects import check_removals

            check_removals(self.data.data)

    def build(self, context: BuildContext, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        from ctt.data.dataset import Dataset
        from ctt.data.positions.linear_reader import LinearPositionReader
        from ctt.data.positions.objects import SlotObjects
        from ctt.data.positions.removed_objects import make

        self.probe.check_unchanged()
        reader, objects = LinearPositionReader.load(inputs["probe"].path), SlotObjects.load(inputs["probe"].path)
        dataset, annotations = Dataset.open(inputs["data"].path), self.data.data.annotation_files
        return make(reader, self.probe.reader.stride, objects, dataset, annotations, context)
