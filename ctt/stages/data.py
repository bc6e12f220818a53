"""Stage `data`: the data set of a sweep as one folder (see ctt/data/dataset.py)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ctt.core.build_context import BuildContext
from ctt.core.settings import canonical_form
from ctt.data.data_settings import PROVISIONAL, DataSettings
from ctt.stages.base import Stage
from ctt.store import Artifact


@dataclasses.dataclass(frozen=True)
class Data(Stage):
    """The synthetic set, simulated from its settings with the same result for any number of workers; or CLEVRER's files,
    identified by their content (`data.content`, determined when a sweep is compiled), not by their path."""

    kind = "data"
    version = 3
    published_seconds = {"videos": 0.03}
    demo_seconds = {"videos": 0.056}  # on two cores
    data: DataSettings

    def settings(self) -> Mapping[str, Any]:
        if self.data.kind == "clevrer":
            return {"data": {"content": PROVISIONAL} | canonical_form(self.data)}
        return {"data": self.data}

    @property
    def provisional(self) -> bool:
        """Whether the key does not identify the data, because the files are missing."""
        return self.data.kind == "clevrer" and (self.data.content or PROVISIONAL).startswith(PROVISIONAL)

    def effort(self, start: Stage | None) -> dict[str, float]:
        if self.data.kind == "clevrer":
            return {"files": float(len(self.data.counts()))}
        return {"videos": float(sum(self.data.counts().values()))}

    def size(self) -> float:
        """Slots, truth and questions of synthetic videos; CLEVRER's slots are linked, not copied."""
        return float(sum(self.data.counts().values())) * (735e3 if self.data.kind == "synthetic" else 13e3)

    def check(self) -> None:
        """Raises DataError if a file that the stage reads from outside the store is missing."""
        if self.data.kind == "clevrer":
            from ctt.data.clevrer.source_files import find

            find(self.data)

    def execution(self) -> dict[str, int]:
        return {"threads": 1, "workers": self.data.workers}

    def build(self, context: BuildContext, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        if self.data.kind == "clevrer":
            from ctt.data.clevrer.source_files import assemble

            return assemble(self.data, context)
        from ctt.data.synthetic.writing import generate

        generate(self.data, context)
        return {}
