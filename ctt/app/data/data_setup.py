"""`ctt data setup`: from CLEVRER's files, wherever they are, to the command that plans a sweep over them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from ctt.app.data.data_check import official_files
from ctt.app.data.data_fetch import fetch_files
from ctt.app.data.data_import import imported_slots, target_of
from ctt.core.atomic_files import read_json, write_json
from ctt.core.build_context import stop_on_signals
from ctt.core.errors import DataError, UsageError
from ctt.core.terminal_console import terminal
from ctt.data.clevrer import source_files
from ctt.data.clevrer.downloads import downloads
from ctt.data.clevrer.imported_slots import MANIFEST
from ctt.data.clevrer.user_files import write_user_files
from ctt.data.data_settings import DataSettings, FetchSettings

ANSWERS = "setup.json"
FETCH, NONE = "fetch", "none"
QUESTIONS = {
    "slots": "slots: a file or folder of slots, or an import, or `fetch` (the reference's VideoSAUR slots, about 9 GB)",
    "questions": "questions: the folder with train.json, validation.json and test.json, or `fetch` (about 0.2 GB)",
    "annotations": "annotations, for the position reader and pictures: their folder (zips may stay zipped), `fetch`, or `none`",
}
NEXT = "ctt plan weights"


@dataclasses.dataclass(frozen=True)
class Answers:
    """Where files are: a path, "fetch", or (annotations) "none"; None: not known yet."""

    slots: str | None = None
    questions: str | None = None
    annotations: str | None = None


def set_up(
    folder: Path | str,
    answers: Answers,
    fetch: FetchSettings | None = None,
    *,
    encoder: str = "videosaur",
    skip_missing: bool = False,
    ask: Callable[[str, str | None], str] | None = None,
    console: Console | None = None,
) -> Path:
    """Downloads and imports what is needed into `folder`, checks every file and writes the user's clevrer.yaml; returns its path.

    Answers that are None are those of an earlier call in this folder, else asked for by `ask` (question, default), else
    UsageError names their option. What an earlier call has fetched or imported is not done again.
    skip_missing: videos may lack slots; their questions are left out. Raises DataError if a file is missing or damaged.
    """
    folder, console = Path(folder).expanduser().resolve(), console or terminal(markup=False)
    answers = _answered(folder, answers, ask)
    settings = dataclasses.replace(fetch or FetchSettings(), folder=str(folder))
    questions, annotations = _questions(answers, settings, folder), _annotations(answers, settings, folder)
    slots = _slots(answers, settings, folder, encoder, skip_missing, console)
    values: dict[str, Any] = {"slots_file": str(slots), "questions": str(questions)}
    if annotations is not None:
        values["annotation_files"] = str(annotations)
    if skip_missing:
        values["missing"] = "skip"
    _check(DataSettings(kind="clevrer", **values), console)
    path = write_user_files(values)
    console.print(f"written: {path}; runs with data=clevrer find the files there", highlight=False, soft_wrap=True)
    console.print(f"next: {NEXT}", highlight=False, soft_wrap=True)
    return path


def set_up_data(
    slots: Path | str,
    questions: Path | str,
    annotations: Path | str = NONE,
    *,
    folder: Path | str = "clevrer",
    encoder: str = "videosaur",
    skip_missing: bool = False,
) -> Path:
    """`ctt data setup` from Python: imports and checks CLEVRER's files, so that every run with data=clevrer finds them.

    slots: a file or folder of slots, or an import; questions: the folder of the question files; annotations: theirs, or "none";
    each may be "fetch", to download it into `folder`, where imports go too. skip_missing: videos may lack slots; their
    questions are left out. Returns the path of the file that remembers the places. What is done is not done again. Raises
    DataError, naming file and remedy.

    >>> ctt.set_up_data("clevrer/clevrer_videosaur_slots.pkl", "clevrer", "clevrer")
    """
    answers = Answers(str(slots), str(questions), str(annotations))
    return set_up(folder, answers, encoder=encoder, skip_missing=skip_missing)


def data_setup(folder: Path, answers: Answers, fetch: FetchSettings, encoder: str, skip_missing: bool) -> int:
    """The command: asks on a terminal."""
    console = terminal(markup=False)

    def ask(question: str, default: str | None) -> str:
        console.print(question, highlight=False, soft_wrap=True)
        return console.input(f"[{default}] " if default else "> ", markup=False).strip() or default or ""

    answering = sys.stdin is not None and sys.stdin.isatty()
    given = _answered(folder.expanduser().resolve(), answers, ask if answering else None)  # before signals only ask to stop
    stop_on_signals()
    set_up(folder, given, fetch, encoder=encoder, skip_missing=skip_missing, console=console)
    return 0


def _answered(folder: Path, answers: Answers, ask: Callable[[str, str | None], str] | None) -> Answers:
    """All answers: given ones, else asked for (earlier ones being the defaults), else earlier ones."""
    earlier = read_json(folder / ANSWERS) or {}
    found: dict[str, str] = {}
    for name, question in QUESTIONS.items():
        default = earlier.get(name) if isinstance(earlier.get(name), str) else NONE if name == "annotations" else None
        answer = getattr(answers, name) or (ask(question, default) if ask else default)
        if not answer:
            raise UsageError(f"where are the {name}? Add --{name} PATH, or --{name} fetch to download them")
        if answer not in (FETCH, NONE):
            answer = str(Path(answer).expanduser().resolve())
            if not Path(answer).exists():
                raise DataError(f"{answer} is missing (--{name})")
        found[name] = answer
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / ANSWERS, found)
    return Answers(**found)


def _fetched(settings: FetchSettings, kind: str, encoder: str = "videosaur") -> Path:
    """Fetches the files of a kind; returns the path of the first."""
    if fetch_files(settings, [kind], encoder):
        raise DataError("a question file is not the official one; rename it, or give a folder of your own with --questions")
    return downloads(settings, kind, encoder)[0].path


def _questions(answers: Answers, settings: FetchSettings, folder: Path) -> Path:
    if answers.questions == FETCH:
        return _fetched(settings, "questions").parent
    place = Path(str(answers.questions))
    found = source_files.question_files(place)
    for split in source_files.NEEDED:
        if split not in found:
            raise DataError(f"{place} has no {' or '.join(source_files.QUESTION_NAMES[split])} (--questions)")
    return place


def _annotations(answers: Answers, settings: FetchSettings, folder: Path) -> Path | None:
    if answers.annotations == NONE:
        return None
    return _fetched(settings, "annotations").parent if answers.annotations == FETCH else Path(str(answers.annotations))


def _slots(answers: Answers, settings: FetchSettings, folder: Path, encoder: str, gaps: bool, console: Console) -> Path:
    """The folder of the imported slots."""
    source = _fetched(settings, "slots", encoder) if answers.slots == FETCH else Path(str(answers.slots))
    if (source / MANIFEST).exists():
        return source
    target = folder / (target_of(source, folder / f"{source.name}_imported" if source.is_dir() else None).name)
    imported_slots(source, target, console, gaps)
    return target


def _check(settings: DataSettings, console: Console) -> None:
    """Raises DataError if a file is missing or damaged; prints the others on the way."""
    notes, damage = official_files(settings, console)
    for line in (*notes, *damage[:-1]):
        console.print(line, highlight=False, soft_wrap=True)
    if damage:
        raise DataError(damage[-1])
    counts = source_files.find(settings).counts
    console.print("checked: " + ", ".join(f"{count} {split} videos" for split, count in counts.items()), highlight=False)
