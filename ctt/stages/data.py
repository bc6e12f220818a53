"""Stage `data`: the data set of a sweep as one folder (see ctt/data/dataset.py)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ctt.data.settings import DataSettings
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

    def execution(self) -> dict[str, int]:
        return {"threads": 1, "workers": self.data.workers}

    def build(self, job: Job, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        from ctt.data.synthetic import generate

        generate(self.data, job)
        return {}
