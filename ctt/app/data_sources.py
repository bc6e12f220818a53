"""CLEVRER's own files as `ctt data check` sees them: all that is missing or damaged, each by its name."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ctt.app.progress_bars import bar
from ctt.core.errors import DataError
from ctt.data.clevrer.annotations import Annotations
from ctt.data.clevrer.imported_slots import ImportedSlots, Part
from ctt.data.clevrer.question_file import LISTS, check_file
from ctt.data.clevrer.source_files import check_questions, look
from ctt.data.data_settings import DataSettings

MOST = 10
"""Mistakes of one question file that are named."""


def official_files(settings: DataSettings, console: Console) -> tuple[list[str], list[str]]:
    """Notes on the files, and a sentence for each thing that is missing or damaged; every byte is read."""
    found = look(settings)
    notes = [found.left_out] if found.left_out and not found.missing else []
    damage = list(found.missing)
    if found.slots:
        if found.slots.frames != 128:
            notes.append(f"videos had {found.slots.frames} frames, of which the first 128 are taken")
        damage += found.slots.damage()
    for split, path in found.questions.items():
        damage += _questions(path, split, found.slots.parts.get(split) if found.slots else None)
    if settings.annotation_files:
        try:
            annotations = Annotations(Path(settings.annotation_files).expanduser())
        except DataError as error:
            return notes, [*damage, str(error)]
        with bar("annotations", console, counted=True) as tell:
            damage += annotations.damage(tell)
        notes += _annotations(annotations, found.slots) if found.slots else []
    return notes, damage


def _questions(path: Path, split: str, part: Part | None) -> list[str]:
    """What is wrong with a question file by itself; if nothing is, with it beside its split's videos."""
    try:
        found = check_file(path)
        wrong = [f"{path}: {text}" for name in LISTS for text in found[name]]
        if len(wrong) > MOST:
            rest = f"{path}: and {len(wrong) - MOST} more; `ctt data check --questions {path}` lists them all"
            return [*wrong[:MOST], rest]
        if not wrong and part is not None:
            check_questions(path, split, part)
        return wrong
    except DataError as error:
        return [str(error)]


def _annotations(annotations: Annotations, slots: ImportedSlots) -> list[str]:
    notes = []
    for split, part in slots.parts.items():
        if split != "test":
            missing = annotations.missing(range(part.first, part.first + part.videos))
            some = ", ".join(map(str, missing[:5])) + (" …" if len(missing) > 5 else "")
            have = f"annotations of {part.videos - len(missing)} of {part.videos} {split} videos"
            notes.append(have + (f"; missing: scenes {some}" if missing else ""))
    return notes
