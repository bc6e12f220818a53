"""`ctt data import`: a slots file becomes memory-mapped files."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from ctt.app.progress_bars import bar
from ctt.core.errors import DataError
from ctt.core.units import duration, size


def import_file(source: Path, to: Path | None) -> int:
    """Imports a slots file into `to` (default: its path without the suffix); prints what it holds and how to use it."""
    from ctt.core.build_context import stop_on_signals
    from ctt.data.clevrer.slots_import import import_slots

    console = Console(markup=False)
    folder = to or source.with_suffix("")
    if folder == source:
        raise DataError(f"{source} has no suffix to remove; name the folder to import to with --to")
    stop_on_signals()
    began = time.monotonic()
    with bar(f"import {source.name}", console) as report:
        imported = import_slots(source, folder, report)
    for split, part in imported.parts.items():
        scenes = f"scenes {part.first} to {part.first + part.videos - 1}"
        console.print(f"{split:10} {part.videos:6} videos, {scenes}, {size(part.size)}", highlight=False)
    if imported.frames != 128:
        console.print(f"videos have {imported.frames} frames: the first 128 are taken, the rollout is left out")
    console.print(f"imported in {duration(time.monotonic() - began)}; use it with", highlight=False)
    console.print(f"  data=clevrer data.slots_file={folder.resolve()}", highlight=False, soft_wrap=True)
    return 0
