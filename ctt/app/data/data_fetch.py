"""`ctt data fetch`: downloads the official files and checks them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ctt.app.progress_bars import bar
from ctt.core.errors import DataError
from ctt.core.terminal_console import terminal
from ctt.data import composition
from ctt.data.clevrer import official_figures
from ctt.data.clevrer.question_file import scenes_of
from ctt.data.clevrer.transfer import Download
from ctt.data.data_settings import FetchSettings


def fetch_files(settings: FetchSettings, kinds: Sequence[str], encoder: str) -> int:
    """Downloads the official files that are missing.

    Exit code 1 if question files have other counts than the official ones: they are renamed to SPLIT.other.json, which
    nothing reads.
    """
    from ctt.core.build_context import stop_on_signals
    from ctt.data.clevrer.downloads import downloads, fetch, limits

    console, errors = terminal(markup=False), terminal(markup=False, stderr=True)
    wanted = [(kind, download) for kind in kinds for download in downloads(settings, kind, encoder)]
    stop_on_signals()
    code = 0
    for kind, download in wanted:
        with bar(download.path.name, console) as report:
            outcome = fetch(download, limits=limits(settings), attempts=settings.attempts, progress=report)
        fetched = outcome == "fetched"
        text = f"{'fetched' if fetched else 'already present'}: {download.path}"
        if kind == "questions":
            counts, differences = _checked_counts(download, fetched)
            if differences and fetched:
                errors.print(_set_aside(download, differences), highlight=False, soft_wrap=True)
                code = 1
                continue
            text += f" ({counts}, {differences or 'the official counts'})"
        console.print(text, highlight=False, soft_wrap=True)
        if kind == "slots":
            console.print(f"  next: ctt data import {download.path}", highlight=False, soft_wrap=True, no_wrap=True)
    return code


def _set_aside(download: Download, differences: str) -> str:
    """Renames a question file that is not the official one; returns the message."""
    aside = download.path.with_suffix(".other.json")
    os.replace(download.path, aside)
    text = f"ctt: {download.url} is not the official file: {differences}. It was renamed to {aside}; to use it all the same, "
    return f"{text}rename it to {download.path.name}"


def _checked_counts(download: Download, fetched: bool) -> tuple[str, str]:
    """As `_counts`; deletes a file that was fetched just now and is no question file. Raises DataError."""
    try:
        return _counts(download.path)
    except DataError as error:
        if not fetched:
            raise
        download.path.unlink()
        raise DataError(f"{error}. It came from {download.url} and was deleted") from None


def _counts(path: Path) -> tuple[str, str]:
    """How many questions a file has, and how its counts differ from the official ones, which take a checksum's place."""
    try:
        found = composition.statistics(scenes_of(path))["questions"]
    except (LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no official question file ({type(error).__name__}: {error})") from None
    known = official_figures.QUESTIONS[path.stem]
    differences = [
        f"{found.get(kind, 0)} {kind} questions instead of {count}" for kind, count in known.items() if found.get(kind, 0) != count
    ]
    return f"{sum(found.values())} questions", ", ".join(differences)
