"""`ctt data import|fetch`: bringing the official files in."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ctt.app.progress_bars import bar
from ctt.core.errors import DataError
from ctt.core.units import duration, size
from ctt.data import composition
from ctt.data.clevrer import official_figures
from ctt.data.data_settings import FetchSettings
from ctt.data.questions.question_table import read_scenes


def import_file(source: Path, to: Path | None) -> int:
    """Imports a slots file, beside it or into `to`, and says what it holds and how to use it."""
    from ctt.core.build_context import stop_on_signals
    from ctt.data.clevrer.slots_import import import_slots

    console = Console(markup=False)
    folder = to or source.with_suffix("")
    if folder == source:
        raise DataError(f"{source} has no ending; name the folder to import to with --to")
    stop_on_signals()
    began = time.monotonic()
    with bar(f"import {source.name}", console) as tell:
        imported = import_slots(source, folder, tell)
    for split, part in imported.parts.items():
        scenes = f"scenes {part.first} to {part.first + part.videos - 1}"
        console.print(f"{split:10} {part.videos:6} videos, {scenes}, {size(part.size)}", highlight=False)
    if imported.frames != 128:
        console.print(f"videos have {imported.frames} frames: the first 128 are taken, the rollout is left out")
    console.print(f"in {duration(time.monotonic() - began)}; use it with", highlight=False)
    console.print(f"  data=clevrer data.slots_file={folder.resolve()}", highlight=False, soft_wrap=True)
    return 0


def fetch_files(settings: FetchSettings, kinds: Sequence[str], encoder: str) -> int:
    """Downloads what of the official files is missing. Exit code 1 if question files have other counts than the official
    ones: those are put aside, under a name that nothing reads."""
    from ctt.core.build_context import stop_on_signals
    from ctt.data.clevrer.fetch import downloads, fetch

    console, errors = Console(markup=False), Console(markup=False, stderr=True)
    wanted = [(kind, download) for kind in kinds for download in downloads(settings, kind, encoder)]
    stop_on_signals()
    code = 0
    for kind, download in wanted:
        with bar(download.path.name, console) as tell:
            outcome = fetch(download, timeout=settings.timeout, attempts=settings.attempts, progress=tell)
        text = f"{'was there already' if outcome == 'there' else 'fetched'}: {download.path}"
        if kind == "questions":
            try:
                counts, apart = _counted(download.path)
            except DataError as error:
                if outcome == "there":
                    raise
                download.path.unlink()
                raise DataError(f"{error}. It came from {download.url} and was deleted") from None
            if apart and outcome == "fetched":
                aside = download.path.with_suffix(".other.json")
                os.replace(download.path, aside)
                text = f"ctt: {download.url} is not the official file: {apart}. It was put aside as {aside}; if it is the one "
                errors.print(f"{text}you want, rename it to {download.path.name}", highlight=False, soft_wrap=True)
                code = 1
                continue
            text += f" ({counts}, {apart or 'the official counts'})"
        console.print(text, highlight=False, soft_wrap=True)
        if kind == "slots":
            console.print(f"  next: ctt data import {download.path}", highlight=False, soft_wrap=True)
    return code


def _counted(path: Path) -> tuple[str, str]:
    """How many questions a file has, and how that differs from the official one, which stands in for a checksum."""
    try:
        found = composition.statistics(read_scenes(path))["questions"]
    except (LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no official question file ({type(error).__name__}: {error})") from None
    known = official_figures.QUESTIONS[path.stem]
    apart = [
        f"{found.get(kind, 0)} {kind} questions instead of {count}"
        for kind, count in known.items()
        if found.get(kind, 0) != count
    ]
    return f"{sum(found.values())} questions", ", ".join(apart)
