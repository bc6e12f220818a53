"""`ctt data import`: a slots file becomes memory-mapped files."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from ctt.app.progress_bars import bar
from ctt.core.errors import DataError
from ctt.core.plain_text import plain
from ctt.core.terminal_console import terminal
from ctt.core.units import duration, size
from ctt.data.clevrer.imported_slots import ImportedSlots

SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".npz", ".npy", ".h5", ".hdf5", ".safetensors")
"""Suffixes that may stand before that of a compression."""


def import_file(source: Path, to: Path | None, gaps: bool = False) -> int:
    """Imports slots into `to` (default: the source's path without its suffix); prints what they are and how to use them."""
    from ctt.core.build_context import stop_on_signals

    console = terminal(markup=False)
    stop_on_signals()
    began = time.monotonic()
    imported = imported_slots(source, target_of(source, to), console, gaps)
    console.print(f"imported in {duration(time.monotonic() - began)}; use it with", highlight=False)
    skip = " data.missing=skip" if any(part.missing for part in imported.parts.values()) else ""
    console.print(
        f"  data=clevrer data.slots_file={imported.folder.resolve()}{skip}", highlight=False, soft_wrap=True, no_wrap=True
    )
    return 0


def target_of(source: Path, to: Path | None) -> Path:
    """The folder to import to."""
    folder = to or source.with_suffix("")
    while to is None and folder.suffix in SUFFIXES:
        folder = folder.with_suffix("")
    if folder == source:
        raise DataError(f"{source} has no suffix to remove; name the folder to import to with --to")
    return folder


def imported_slots(source: Path, folder: Path, console: Console, gaps: bool = False) -> ImportedSlots:
    """Imports with a progress bar, and prints what was imported."""
    from ctt.data.clevrer.slots_import import import_slots

    with bar(f"import {source.name}", console) as report:
        imported = import_slots(source, folder, report, gaps)
    for split, part in imported.parts.items():
        scenes = f"scenes {part.first} to {part.scenes[-1]}"
        lack = f", {len(part.missing)} missing" if part.missing else ""
        console.print(f"{split:10} {part.videos:6} videos, {scenes}{lack}, {size(part.size)}", highlight=False)
    for note in imported.source.get("notes", []):
        console.print(plain(note), highlight=False, soft_wrap=True)
    if (imported.slots, imported.width) != (7, 128):
        console.print(f"{imported.slots} slots of {imported.width} numbers", highlight=False)
    if imported.frames != 128:
        console.print(f"videos have {imported.frames} frames: the first 128 are taken, the rollout is left out")
    return imported
