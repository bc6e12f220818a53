"""`ctt data check`: what is in a data set, and what is missing or damaged of it."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from ctt.app import gc
from ctt.app.data_sources import official_files
from ctt.app.data_tables import blind, shares
from ctt.app.progress_bars import Bars
from ctt.config import Config
from ctt.core.errors import DataError
from ctt.data import composition
from ctt.data.clevrer.question_file import LISTS, check_file, troubles
from ctt.data.clevrer.source_files import resolved
from ctt.data.dataset import Dataset
from ctt.data.questions.question_table import read_scenes
from ctt.stages.base import build
from ctt.stages.data import Data
from ctt.store import Artifact, Store


def plain(text: str) -> str:
    """A file's text as one line that no terminal takes for anything else."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def check_questions(path: Path, as_json: bool) -> int:
    """Checks one official question file. Exit code 2 if anything is wrong with it."""
    try:
        found = check_file(path)
    except DataError as error:
        if as_json:
            empty = dict(scenes=0, questions={}, without_program=0)
            lists: dict[str, list[str]] = dict(unknown_words=[], unknown_program_tokens=[], ill_typed_programs=[])
            print(json.dumps({**empty, **lists, "errors": [str(error)]}, indent=1))
        raise
    wrong = troubles(found)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        console = Console(markup=False)
        questions = ", ".join(f"{count} {category}" for category, count in found["questions"].items())
        console.print(f"{found['scenes']} scenes: {questions}", highlight=False, soft_wrap=True)
        console.print(f"{found['without_program']} questions have no program", highlight=False)
        for name in LISTS:
            for entry in found[name]:
                said = f"{name.replace('_', ' ').removesuffix('s')}: {plain(entry)}"
                console.print(said, highlight=False, soft_wrap=True)
    if wrong:
        raise DataError(f"{path}: {wrong} {'thing is' if wrong == 1 else 'things are'} wrong with it")
    return 0


def check_data(config: Config, key: str | None, as_json: bool) -> int:
    """Checks a whole data set: its files in full, and its counts beside CLEVRER's. Exit code 2 if a file is damaged."""
    console = Console(stderr=as_json, markup=False)
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
        return _damaged(
            [*damage, "the data set was moved to quarantine; the same command makes it again"], as_json, console
        )
    dataset = Dataset.open(artifact.path)
    splits = {
        split: composition.statistics(read_scenes(dataset.split(split).questions_file)) for split in dataset.splits
    }
    levels = composition.blind(dataset)
    if as_json:
        print(json.dumps(dict(key=artifact.key, splits=splits, blind=levels, notes=notes, damage=[]), indent=1))
        return 0
    console.print(
        f"data {artifact.key}: {dataset.name}, every byte as it was published", highlight=False, soft_wrap=True
    )
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)
    for split, found in splits.items():
        console.print(shares(split, found))
    if levels:
        console.print(blind(levels))
    return 0


def _damaged(damage: list[str], as_json: bool, console: Console) -> int:
    if as_json:
        print(json.dumps(dict(key=None, splits={}, blind={}, notes=[], damage=damage), indent=1))
    for text in damage[:-1]:
        console.print(text, highlight=False, soft_wrap=True)
    raise DataError(damage[-1])


def data_set(config: Config, key: str | None, store: Store, console: Console) -> Artifact:
    """The data set that is meant: an artifact by its key, or the one of the settings, made if it is not there."""
    if key is not None:
        found = store.get(gc.find(store, key))
        if found is None or found.manifest["kind"] != "data":
            raise DataError(f"{key} is not a data set of the store {store.root}")
        return found
    stage = Data(resolved(config.data))
    stage.check()
    if store.has(stage.key):
        return build(stage, store)
    from ctt.core.build_context import stop_on_signals

    stop_on_signals()
    with Bars(store, console) as bars:
        return build(stage, store, on_event=bars.event)
