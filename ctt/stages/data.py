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
    """The synthetic set, simulated from its settings, deterministic whatever the number of workers; or CLEVRER's own
    files, known by what is in them (`data.content`, which compiling a sweep finds), not by where they are."""

    kind = "data"
    version = 3
    data: DataSettings

    def settings(self) -> Mapping[str, Any]:
        if self.data.kind == "clevrer":
            return {"data": {"content": PROVISIONAL} | canonical_form(self.data)}
        return {"data": self.data}

    @property
    def provisional(self) -> bool:
        """Whether the key says nothing of the data, because the files are not there."""
        return self.data.kind == "clevrer" and (self.data.content or PROVISIONAL).startswith(PROVISIONAL)

    def effort(self, start: Stage | None) -> dict[str, float]:
        if self.data.kind == "clevrer":
            return {"files": float(len(self.data.counts()))}
        return {"videos": float(sum(self.data.counts().values()))}

    def size(self) -> float:
        """Slots of given and later frames, truth and questions of synthetic videos; CLEVRER's slots are linked, not copied."""
        return float(sum(self.data.counts().values())) * (735e3 if self.data.kind == "synthetic" else 13e3)

    def check(self) -> None:
        """Raises DataError if what the stage reads from outside the store is not there."""
        if self.data.kind == "clevrer":
            from ctt.data.clevrer.source_files import find

            find(self.data)

    def execution(self) -> dict[str, int]:
        return {"threads": 1, "workers": self.data.workers}

    def build(
        self, context: BuildContext, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None
    ) -> dict[str, Any]:
        if self.data.kind == "clevrer":
            from ctt.data.clevrer.source_files import assemble

            return assemble(self.data, context)
        from ctt.data.synthetic.writing import generate

        generate(self.data, context)
        return {}
