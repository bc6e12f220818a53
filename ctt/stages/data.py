"""Stage `data`: the data set of a sweep as one folder (see ctt/data/dataset.py), written by its source (ctt/data/sources)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ctt.core import disk_space
from ctt.core.build_context import BuildContext
from ctt.core.settings import canonical_form, digest
from ctt.data.data_settings import PROVISIONAL, DataSettings
from ctt.data.sources.data_source import DATA_SOURCES, DataSource
from ctt.stages.base import Stage
from ctt.store import Artifact


@dataclasses.dataclass(frozen=True)
class Data(Stage):
    """A data set that is generated is identified by its settings; one that is read from files by their content
    (`data.content`, determined when a sweep is compiled), not by their path. A source of another distribution is in the key with
    its version and code."""

    kind = "data"
    version = 4  # of generated questions
    version_of_files = 3  # of data that are read or come from a plugin
    published_seconds = {"videos": 0.03}
    demo_seconds = {"videos": 0.023}  # on two cores
    data: DataSettings

    @property
    def source(self) -> DataSource:
        return self.data.source

    def settings(self) -> Mapping[str, Any]:
        settings: Any = {"content": PROVISIONAL} | canonical_form(self.data) if self.data.from_files else self.data
        plugin = DATA_SOURCES.plugin(self.data.kind)
        return {"data": settings} | ({"plugins": {"data.kind": f"{plugin} {plugin.code}"}} if plugin is not None else {})

    def describe(self) -> dict[str, Any]:
        generated = self.data.kind == "synthetic"
        return super().describe() | ({} if generated else {"version": self.version_of_files})

    @property
    def provisional(self) -> bool:
        """Whether the key does not identify the data, because the files are missing."""
        return self.data.from_files and (self.data.content or PROVISIONAL).startswith(PROVISIONAL)

    @property
    def small(self) -> bool:
        """Whether the published costs are of larger data."""
        return not self.source.published_size

    def cost_class(self) -> str:
        """Sources of other distributions have costs of their own."""
        plugin = DATA_SOURCES.plugin(self.data.kind)
        return digest({"kind": self.kind, "version": self.version} | ({} if plugin is None else {"source": self.data.kind}))

    def effort(self, start: Stage | None) -> dict[str, float]:
        return self.source.effort(self.data)

    def size(self) -> float:
        return float(sum(self.data.counts().values())) * self.source.bytes_of_video(self.data)

    def check(self) -> None:
        """Raises DataError if a file that the stage reads from outside the store is missing."""
        self.source.check(self.data)

    def execution(self) -> dict[str, int]:
        return {"threads": 1, "workers": self.data.workers}

    def build(self, context: BuildContext, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        """Raises DataError, naming file and key, if what the source has written is not in the format that it declares, and
        DiskFull before any work if there is no space for the data."""
        from ctt.data.dataset import MANIFEST, Dataset, write_manifest

        disk_space.check_space(context.folder, self.size(), "the data set")
        declared, counts = self.data.format, self.data.counts()
        facts = self.source.write(self.data, context)
        if not (context.folder / MANIFEST).exists():
            write_manifest(context.folder, self.data.kind, declared, counts, self.data.first_scene())
        Dataset.open(context.folder).check(declared)
        return dict(facts or {})
