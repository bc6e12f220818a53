"""`ctt data check`: what is in a data set, and what is missing or damaged in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ctt.app.progress_bars import Bars, bar
from ctt.app.show import find_artifact
from ctt.config import Config
from ctt.core.errors import DataError
from ctt.core.plain_text import plain
from ctt.core.terminal_console import terminal
from ctt.data import composition
from ctt.data.clevrer import source_files
from ctt.data.clevrer.annotations import Annotations
from ctt.data.clevrer.imported_slots import ImportedSlots, Part
from ctt.data.clevrer.question_file import LISTS, check_file, problem_count
from ctt.data.data_format import DataFormat
from ctt.data.data_settings import DataSettings
from ctt.data.dataset import Dataset
from ctt.data.positions.reader_settings import PositionReaderSettings
from ctt.data.positions.unread import check_annotated, unread_of_annotated
from ctt.data.questions.other_forms import as_json, other_texts
from ctt.data.questions.question_table import read_scenes
from ctt.stages.base import build
from ctt.stages.data import Data
from ctt.store import Artifact, Store

MOST_FORMS = 20
"""Texts of no known form that are listed."""
MOST = 10
"""Mistakes of one question file that are listed."""


def check_questions(path: Path, as_json: bool) -> int:
    """Checks one official question file. Exit code 2 if anything is wrong with it."""
    try:
        found = check_file(path)
    except DataError as error:
        if as_json:
            empty = dict(scenes=0, questions={}, without_program=0, other_forms=[])
            lists: dict[str, list[str]] = dict(unknown_words=[], unknown_program_tokens=[], ill_typed_programs=[])
            print(json.dumps({**empty, **lists, "errors": [str(error)]}, indent=1))
        raise
    wrong = problem_count(found)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        console = terminal(markup=False)
        questions = ", ".join(f"{count} {category}" for category, count in found["questions"].items())
        console.print(f"{found['scenes']} scenes: {questions}", highlight=False, soft_wrap=True)
        console.print(f"{found['without_program']} questions have no program", highlight=False)
        _print_other_forms(found["other_forms"], "", console)
        for name in LISTS:
            for entry in found[name]:
                line = f"{name.replace('_', ' ').removesuffix('s')}: {plain(entry)}"
                console.print(line, highlight=False, soft_wrap=True)
    if wrong:
        raise DataError(f"{path}: {wrong} {'thing is' if wrong == 1 else 'things are'} wrong with it")
    return 0


def check_data(config: Config, key: str | None, as_json: bool) -> int:
    """Reads all files of a data set and compares its counts with CLEVRER's. Exit code 2 if a file is damaged."""
    console = terminal(stderr=as_json, markup=False)
    store = Store.open(config.store)
    notes: list[str] = []
    damage: list[str] = []
    if key is None and config.data.kind == "clevrer":
        notes, damage = official_files(config.data, console)
    if damage:
        return _damaged(damage, as_json, console)
    artifact = data_set(config, key, store, console)
    damage = [f"{artifact.path / name} is damaged" for name in store.verify(artifact.key)]
    if damage:
        store.quarantine(artifact.key, damage[0])
        moved = "the data set was moved to quarantine; the same command makes it again"
        return _damaged([*damage, moved], as_json, console)
    dataset = Dataset.open(artifact.path)
    dataset.check(dataset.format)
    splits = {split: _statistics(dataset, split) for split in dataset.splits}
    blind = composition.blind(dataset)
    if as_json:
        print(json.dumps(dict(key=artifact.key, splits=splits, blind=blind, notes=notes, damage=[]), indent=1))
        return 0
    title = f"data {artifact.key}: {dataset.name}, every byte as it was published"
    for line in (title, _described(dataset.format), *notes):
        console.print(line, highlight=False, soft_wrap=True)
    for split, found in splits.items():
        console.print(_shares(split, found, dataset.format))
        _print_other_forms(found.get("other_forms", []), f"{split}: ", console)
    if blind:
        console.print(_blind_levels(blind))
    return 0


def _statistics(dataset: Dataset, split: str) -> dict[str, Any]:
    """The counts of a split; of data without questions its videos alone."""
    if not dataset.format.categories:
        return composition.statistics([]) | {"videos": dataset.split(split).videos, "correct": {}}
    scenes = read_scenes(dataset.split(split).questions_file)
    found = composition.statistics(scenes, dataset.format.categories)
    if dataset.format.like_clevrer:
        found["other_forms"] = as_json(other_texts(question for scene in scenes for question in scene["questions"]))
    return found


def _print_other_forms(found: list[dict[str, Any]], where: str, console: Console) -> None:
    """Prints how many texts have none of the known forms, and the most frequent ones."""
    if not found:
        return
    total = sum(entry["count"] for entry in found)
    what = "questions and options have none of the known forms; breakdowns and blind levels count them together"
    console.print(f"{where}{total} {what}:", highlight=False, soft_wrap=True)
    for entry in found[:MOST_FORMS]:
        console.print(f"  {entry['count']:6}  {entry['form']}: {plain(entry['text'])}", highlight=False, soft_wrap=True)
    if len(found) > MOST_FORMS:
        console.print(f"  … and {len(found) - MOST_FORMS} more texts; --json lists them", highlight=False)


def _described(data_format: DataFormat) -> str:
    """One line on the sizes, the questions and the positions of a data set."""
    asked = ", ".join(data_format.categories.names) or "no questions"
    positions = f"positions in {data_format.positions}" if data_format.positions else "no positions"
    return f"{data_format.frames} frames, {data_format.slots} slots of width {data_format.width}; {asked}; {positions}"


def data_set(config: Config, key: str | None, store: Store, console: Console) -> Artifact:
    """The data set of a key, or of the settings where `key` is None; the latter is made if it is not in the store."""
    if key is not None:
        found = store.get(find_artifact(store, key))
        if found is None or found.manifest["kind"] != "data":
            raise DataError(f"{key} is not a data set of the store {store.root}")
        return found
    stage = Data(config.data.source.resolved(config.data))
    stage.check()
    if store.has(stage.key):
        return build(stage, store)
    from ctt.core.build_context import stop_on_signals

    stop_on_signals()
    with Bars(store, console) as bars:
        return build(stage, store, on_event=bars.event)


def _damaged(damage: list[str], as_json: bool, console: Console) -> int:
    if as_json:
        print(json.dumps(dict(key=None, splits={}, blind={}, notes=[], damage=damage), indent=1))
    for text in damage[:-1]:
        console.print(text, highlight=False, soft_wrap=True)
    raise DataError(damage[-1])


def official_files(settings: DataSettings, console: Console) -> tuple[list[str], list[str]]:
    """Notes on CLEVRER's own files, and a sentence for each one that is missing or damaged; every byte is read."""
    found = source_files.look(settings)
    notes = [found.left_out] if found.left_out and not found.missing else []
    damage = list(found.missing)
    if found.slots:
        if found.slots.frames != 128:
            notes.append(f"videos had {found.slots.frames} frames, of which the first 128 are taken")
        damage += found.slots.damage()
    for split, path in found.questions.items():
        part = found.slots.parts.get(split) if found.slots else None
        damage += _mistakes(path, split, part, settings.missing == "skip", notes)
    if settings.annotation_files:
        try:
            annotations = Annotations(Path(settings.annotation_files).expanduser())
        except DataError as error:
            return notes, [*damage, str(error)]
        with bar("annotations", console, counted=True) as report:
            damage += annotations.damage(report)
        notes += _coverage(annotations, found.slots) if found.slots else []
        notes += [] if damage else _unread(settings)
    return notes, damage


def _unread(settings: DataSettings) -> list[str]:
    """The questions that the position reader cannot read, or why a sweep with it would be refused."""
    try:
        check_annotated(PositionReaderSettings(), settings)
        listed = unread_of_annotated(settings)
    except DataError as error:
        return [f"the position reader cannot be used: {error}"]
    if not listed:
        return []
    lines = [f"  scene {one['scene']}, question {one['question_id']}: {one['reason']}" for one in listed[:MOST]]
    lines += [f"  … and {len(listed) - MOST} more"] if len(listed) > MOST else []
    count = f"{len(listed)} validation question{'s' if len(listed) > 1 else ''}"
    return [f"{count} not readable from positions, counted as wrong by the position reader:", *lines]


def _mistakes(path: Path, split: str, part: Part | None, skip: bool, notes: list[str]) -> list[str]:
    """What is wrong with a question file; if it is right by itself, what does not fit its split's videos. `notes` gets what is
    left out."""
    try:
        found = check_file(path)
        wrong = [f"{path}: {text}" for name in LISTS for text in found[name]]
        if len(wrong) > MOST:
            rest = f"{path}: and {len(wrong) - MOST} more; `ctt data check --questions {path}` lists them all"
            return [*wrong[:MOST], rest]
        if not wrong and part is not None:
            notes += source_files.check_questions(path, split, part, skip).notes
        return wrong
    except DataError as error:
        return [str(error)]


def _coverage(annotations: Annotations, slots: ImportedSlots) -> list[str]:
    """How many videos of each split have annotations, and the first that have none."""
    notes = []
    for split, part in slots.parts.items():
        if split != "test":
            missing = annotations.missing(part.scenes)
            some = ", ".join(map(str, missing[:5])) + (" …" if len(missing) > 5 else "")
            have = f"annotations of {part.videos - len(missing)} of {part.videos} {split} videos"
            notes.append(have + (f"; missing: scenes {some}" if missing else ""))
    return notes


def _shares(split: str, found: dict[str, Any], data_format: DataFormat) -> Table:
    """A split's counts (`composition.statistics`), next to the official ones if they are of CLEVRER's questions."""
    table = Table(title=f"{split}: {found['videos']} videos, {sum(found['questions'].values())} questions")
    official = ("CLEVRER %", "difference") if data_format.like_clevrer else ()
    for column in ("", "", "count", "%", *official):
        table.add_column(column, justify="left" if not column else "right")
    group = ""
    for line in composition.lines(found, split) if official else composition.counts_alone(found, data_format):
        compared = [_percent(line.official), f"{line.difference:+.1f}" if line.difference is not None else "–"]
        shares = [_percent(line.share), *(compared if official else ())]
        table.add_row(line.group if line.group != group else "", line.name, str(line.count), *shares)
        group = line.group
    return table


def _blind_levels(blind: dict[str, dict[str, Any]]) -> Table:
    """The accuracies of `composition.blind`."""
    baselines = "the most frequent answer of the question's form; a model of the question's words"
    table = Table(title=f"answered without the video, in %: {baselines}")
    for column in ("", "form, per question", "per option", "words, per question", "per option"):
        table.add_column(column, justify="left" if not column else "right")
    for category in blind["form"]["per_question"]:
        values = [level[per][category] for level in blind.values() for per in ("per_question", "per_option")]
        table.add_row(category, *map(_percent, values))
    form, words = (_percent(blind[name]["average"]) for name in ("form", "words"))
    table.add_row("average", form, "", words, "")
    return table


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
