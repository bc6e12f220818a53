"""`ctt data import|fetch|check|show`: bringing the official files in, and looking at what is in a data set."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from ctt.config import Config
from ctt.data import check
from ctt.data.annotated import Annotations
from ctt.data.clevrer import Sources, find, question_files, resolved
from ctt.data.dataset import Dataset
from ctt.data.imported import Imported
from ctt.data.question_file import LISTS, check_file, troubles
from ctt.data.question_table import QuestionTable, read_scenes
from ctt.data.settings import DataSettings, FetchSettings
from ctt.errors import DataError
from ctt.launch import keep
from ctt.launch.bars import Bars
from ctt.stages.base import build
from ctt.stages.data import Data
from ctt.store import Artifact, Store
from ctt.units import duration, size


@contextlib.contextmanager
def bar(what: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes with the time to go; a line every ten seconds where there is no terminal."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        began = last = time.monotonic()
        first: int | None = None

        def tell(done: int, total: int) -> None:
            nonlocal last, first
            first = done if first is None else first
            progress.update(task, completed=done, total=total or None)
            now = time.monotonic()
            if not console.is_terminal and now - last > 10:
                last = now
                left = (total - done) * (now - began) / max(done - first, 1)
                rest = f" of {size(total)}, {duration(left)} to go" if total else ""
                console.print(f"{what}: {size(done)}{rest}", highlight=False)

        yield tell


def plain(text: str) -> str:
    """A file's text as one line that no terminal takes for anything else."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def import_file(source: Path, to: Path | None) -> int:
    """Imports a slots file, beside it or into `to`, and says what it holds and how to use it."""
    from ctt.data.importing import import_slots
    from ctt.job import stop_on_signals

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
    """Downloads what of the official files is missing."""
    from ctt.data.fetch import downloads, fetch
    from ctt.job import stop_on_signals

    console = Console(markup=False)
    wanted = [(kind, download) for kind in kinds for download in downloads(settings, kind, encoder)]
    stop_on_signals()
    for kind, download in wanted:
        with bar(download.path.name, console) as tell:
            outcome = fetch(download, timeout=settings.timeout, attempts=settings.attempts, progress=tell)
        text = f"{'was there already' if outcome == 'there' else 'fetched'}: {download.path}"
        if kind == "questions":
            try:
                text += f" ({_counted(download.path)})"
            except DataError as error:
                if outcome == "there":
                    raise
                download.path.unlink()
                raise DataError(f"{error}. It came from {download.url} and was deleted") from None
        console.print(text, highlight=False, soft_wrap=True)
        if kind == "slots":
            console.print(f"  next: ctt data import {download.path}", highlight=False, soft_wrap=True)
    return 0


def _counted(path: Path) -> str:
    from ctt.data import official

    split = path.stem
    try:
        found = check.statistics(read_scenes(path))["questions"]
    except (LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no official question file ({type(error).__name__}: {error})") from None
    same = found == official.QUESTIONS[split]
    return f"{sum(found.values())} questions, " + ("the official counts" if same else "not the official counts")


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
        notes, damage = _sources(config.data)
    if damage:
        return _damaged(damage, as_json, console)
    artifact = _artifact(config, key, store, console)
    damage = [f"{artifact.path / name} is damaged" for name in store.verify(artifact.key)]
    if damage:
        store.quarantine(artifact.key, damage[0])
        return _damaged(
            [*damage, "the data set was moved to quarantine; the same command makes it again"], as_json, console
        )
    dataset = Dataset.open(artifact.path)
    splits = {split: check.statistics(read_scenes(dataset.split(split).questions_file)) for split in dataset.splits}
    levels = check.blind(dataset)
    if as_json:
        print(json.dumps(dict(key=artifact.key, splits=splits, blind=levels, notes=notes, damage=[]), indent=1))
        return 0
    console.print(
        f"data {artifact.key}: {dataset.name}, every byte as it was published", highlight=False, soft_wrap=True
    )
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)
    for split, found in splits.items():
        console.print(_table(split, found))
    if levels:
        console.print(_blind_table(levels))
    return 0


def _damaged(damage: list[str], as_json: bool, console: Console) -> int:
    if as_json:
        print(json.dumps(dict(key=None, splits={}, blind={}, notes=[], damage=damage), indent=1))
    for text in damage[:-1]:
        console.print(text, highlight=False, soft_wrap=True)
    raise DataError(damage[-1])


def _sources(settings: DataSettings) -> tuple[list[str], list[str]]:
    """Notes on the official files, and what is missing or damaged of them, by name."""
    try:
        sources: Sources = find(settings)
    except DataError as error:
        return [], [str(error)]
    notes = [sources.left_out] if sources.left_out else []
    if sources.slots.frames != 128:
        notes.append(f"videos had {sources.slots.frames} frames, of which the first 128 are taken")
    damage = sources.slots.damage()
    for path in sources.questions.values():
        found = check_file(path)
        listed = [text for name in LISTS for text in found[name]]
        damage += [f"{path}: {text}" for text in listed[:10]]
    if settings.annotation_files:
        notes += _annotation_notes(Annotations(Path(settings.annotation_files).expanduser()), sources.slots)
    return notes, damage


def _annotation_notes(annotations: Annotations, slots: Imported) -> list[str]:
    notes = []
    for split, part in slots.parts.items():
        if split != "test":
            missing = annotations.missing(range(part.first, part.first + part.videos))
            some = ", ".join(map(str, missing[:5])) + (" …" if len(missing) > 5 else "")
            have = f"annotations of {part.videos - len(missing)} of {part.videos} {split} videos"
            notes.append(have + (f"; missing: scenes {some}" if missing else ""))
    return notes


def _artifact(config: Config, key: str | None, store: Store, console: Console) -> Artifact:
    """The data set that is meant: an artifact by its key, or the one of the settings, made if it is not there."""
    if key is not None:
        found = store.get(keep.find(store, key))
        if found is None or found.manifest["kind"] != "data":
            raise DataError(f"{key} is not a data set of the store {store.root}")
        return found
    stage = Data(resolved(config.data))
    stage.check()
    if store.has(stage.key):
        return build(stage, store)
    from ctt.job import stop_on_signals

    stop_on_signals()
    with Bars(store, console) as bars:
        return build(stage, store, on_event=bars.event)


def _table(split: str, found: dict[str, Any]) -> Table:
    table = Table(title=f"{split}: {found['videos']} videos, {sum(found['questions'].values())} questions")
    for column in ("", "", "count", "%", "CLEVRER %", "apart"):
        table.add_column(column, justify="left" if not column else "right")
    group = ""
    for line in check.lines(found, split):
        shown = [f"{value:.1f}" if value is not None else "–" for value in (line.share, line.official)]
        apart = f"{line.apart:+.1f}" if line.apart is not None else "–"
        table.add_row(line.group if line.group != group else "", line.name, str(line.count), *shown, apart)
        group = line.group
    return table


def _blind_table(levels: dict[str, dict[str, Any]]) -> Table:
    said = "the most frequent answer of the question's form; a model of the question's words"
    table = Table(title=f"answered without the video, in %: {said}")
    for column in ("", "form, per question", "per option", "words, per question", "per option"):
        table.add_column(column, justify="left" if not column else "right")
    for category in levels["form"]["per_question"]:
        values = [level[per][category] for level in levels.values() for per in ("per_question", "per_option")]
        table.add_row(category, *("–" if value is None else f"{value:.1f}" for value in values))
    form, words = (f"{levels[name]['average']:.1f}" for name in ("form", "words"))
    table.add_row("average", form, "", words, "")
    return table


def show_scene(config: Config, scene: int, to: Path) -> int:
    """Writes a scene's picture and animation and prints its questions with their answers."""
    console = Console(markup=False)
    made, missing = (_show_real if config.data.kind == "clevrer" else _show_synthetic)(config, scene, to, console)
    for path in made:
        console.print(str(path), highlight=False, soft_wrap=True)
    if missing:
        console.print(missing, highlight=False, soft_wrap=True)
    return 0


def _show_synthetic(config: Config, scene: int, to: Path, console: Console) -> tuple[list[Path], str]:
    from ctt.data.draw import draw_scene
    from ctt.data.film import film_of, save_gif

    dataset = Dataset.open(_artifact(config, None, Store.open(config.store), console).path)
    for name in dataset.splits:
        split = dataset.split(name)
        video = scene - int(split.scene_index[0])
        if 0 <= video < split.videos:
            _print_questions(split.questions_file, scene, console)
            picture, animation = _paths(to, scene)
            draw_scene(split, video, picture)
            save_gif(film_of(split.truth.scene(video)), animation)
            return [picture, animation], ""
    spans = ", ".join(
        f"{name} {s.scene_index[0]} to {s.scene_index[-1]}" for name in dataset.splits for s in (dataset.split(name),)
    )
    raise DataError(f"there is no scene {scene}; the data set has {spans}")


def _show_real(config: Config, scene: int, to: Path, console: Console) -> tuple[list[Path], str]:
    from ctt.data.film import film_of_annotation, save_gif, save_trails

    settings = config.data
    if not settings.questions:
        find(settings)  # says what is missing
    files = question_files(Path(str(settings.questions)).expanduser())
    for path in files.values():
        if _print_questions(path, scene, console):
            break
    else:
        raise DataError(f"{settings.questions} asks nothing of scene {scene}; it has {', '.join(files) or 'no files'}")
    if not settings.annotation_files:
        return [], (
            "no picture: data.annotation_files (the folder of the annotations) is missing; `ctt data fetch annotations` "
            "gets them. Videos are not read"
        )
    film = film_of_annotation(Annotations(Path(settings.annotation_files).expanduser()).read(scene))
    picture, animation = _paths(to, scene)
    save_trails(film, picture)
    save_gif(film, animation)
    return [picture, animation], ""


def _paths(to: Path, scene: int) -> tuple[Path, Path]:
    to.mkdir(parents=True, exist_ok=True)
    return to / f"scene_{scene:05d}.png", to / f"scene_{scene:05d}.gif"


def _print_questions(path: Path, scene: int, console: Console) -> bool:
    """Prints the scene's questions, right options marked; False if there is no such scene."""
    found = next((s for s in read_scenes(path) if isinstance(s, dict) and s.get("scene_index") == scene), None)
    if found is None:
        return False
    QuestionTable.build([found], np.array([scene]), str(path))  # says what is malformed
    for question in found["questions"]:
        answer = question.get("answer", "") if question["question_type"] == "descriptive" else ""
        asked = f"{question['question_type']:14} {plain(question['question'])}  "
        console.print(Text.assemble(asked, (answer, "bold")), soft_wrap=True)
        for choice in question.get("choices", ()):
            mark = {"correct": ("✓", "green"), "wrong": ("✗", "red")}.get(choice.get("answer", ""), ("?", ""))
            console.print(Text.assemble(f"{'':14} ", mark, f" {plain(choice['choice'])}"), soft_wrap=True)
    return True
