"""Stage `data`: the data set of a sweep as one folder (see ctt/data/dataset.py)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ctt.data.settings import DataSettings
from ctt.errors import DataError
from ctt.job import Job
from ctt.stages.base import Stage
from ctt.store import Artifact


@dataclasses.dataclass(frozen=True)
class Data(Stage):
    """The synthetic set, simulated from its settings; deterministic whatever the number of workers."""

    kind = "data"
    version = 1
    data: DataSettings

    def settings(self) -> Mapping[str, Any]:
        return {"data": self.data}

    def effort(self, start: Stage | None) -> dict[str, float]:
        return {"videos": float(sum(self.data.counts().values()))}

    def check(self) -> None:
        """Raises DataError if what the stage reads from outside the store is not there."""
        if self.data.kind == "clevrer" and not (self.data.slots_file and self.data.questions):
            raise DataError(
                "data=clevrer needs data.slots_file (imported slots) and data.questions (the folder of the official "
                "question files); data=mini and data=synthetic need no files"
            )

    def execution(self) -> dict[str, int]:
        return {"threads": 1, "workers": self.data.workers}

    def build(self, job: Job, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        from ctt.data.synthetic import generate

        self.check()
        generate(self.data, job)
        return {}
