"""CLEVRER: slots imported from the reference's files, official questions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctt.core.build_context import BuildContext
from ctt.core.errors import SettingError
from ctt.data.data_format import CLEVRER, DataFormat
from ctt.data.sources.data_source import CONTENT, DataSource


class ClevrerSource(DataSource):
    """Official files at the given paths, identified by their content."""

    name = "clevrer"
    help = "official CLEVRER files"
    data_format = CLEVRER
    reads = (CONTENT,)
    annotated = True
    unread = "CLEVRER's scenes are identified by their files; nothing is simulated"
    reported = ("reported", "paper")
    published_size = True

    def format(self, settings: Any) -> DataFormat:
        """CLEVRER's, with the sizes of the imported slots."""
        from ctt.data.clevrer.imported_slots import sizes_of

        if not settings.slots_file:
            return CLEVRER
        slots, width = sizes_of(Path(settings.slots_file).expanduser())
        return dataclasses.replace(CLEVRER, slots=slots, width=width)

    def check_settings(self, settings: Any) -> None:
        if settings.annotations:
            raise SettingError("data.annotations must be false for CLEVRER: they are written for synthetic data only")

    def resolved(self, settings: Any) -> Any:
        from ctt.data.clevrer.source_files import resolved

        return resolved(settings)

    def check(self, settings: Any) -> None:
        from ctt.data.clevrer.source_files import find

        find(settings)

    def write(self, settings: Any, context: BuildContext) -> Mapping[str, Any]:
        from ctt.data.clevrer.source_files import assemble

        return assemble(settings, context)

    def effort(self, settings: Any) -> dict[str, float]:
        return {"files": float(len(settings.counts()))}

    def bytes_of_video(self, settings: Any) -> float:
        """Slots are linked, not copied."""
        return 13e3


SOURCE = ClevrerSource()
