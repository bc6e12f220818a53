"""`ctt data show`: a scene's picture, animation and questions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from ctt.app.data.data_check import data_set
from ctt.config import Config
from ctt.core.errors import DataError
from ctt.core.plain_text import plain
from ctt.core.terminal_console import terminal
from ctt.data.clevrer.annotations import Annotations
from ctt.data.clevrer.source_files import find, question_files
from ctt.data.data_format import CLEVRER, DataFormat
from ctt.data.dataset import Dataset
from ctt.data.questions.question_table import QuestionTable, read_scenes
from ctt.store import Store


def show_scene(config: Config, scene: int, to: Path) -> int:
    """Writes a scene's picture and animation and prints its questions with their answers."""
    console = terminal(markup=False)
    made, missing = (_show_official if config.data.source.annotated else _show_made)(config, scene, to, console)
    for path in made:
        console.print(str(path), highlight=False, soft_wrap=True)
    if missing:
        console.print(missing, highlight=False, soft_wrap=True)
    return 0


def _show_made(config: Config, scene: int, to: Path, console: Console) -> tuple[list[Path], str]:
    """A scene of a data set that is generated, or read from files that only its source knows."""
    dataset = Dataset.open(data_set(config, None, Store.open(config.store), console).path)
    for name in dataset.splits:
        split = dataset.split(name)
        for video in np.flatnonzero(split.scene_index == scene).tolist():
            if not dataset.format.categories:
                console.print("no questions: the data set asks none", highlight=False)
            else:
                _print_questions(split.questions_file, scene, console, dataset.format)
            to.mkdir(parents=True, exist_ok=True)
            drawn = config.data.source.draw(split, video, to)
            return drawn, "" if drawn else f"no picture: the data source {config.data.kind} draws none"
    spans = ", ".join(
        f"{name} {s.scene_index[0]} to {s.scene_index[-1]}" for name in dataset.splits for s in (dataset.split(name),)
    )
    raise DataError(f"there is no scene {scene}; the data set has {spans}")


def _show_official(config: Config, scene: int, to: Path, console: Console) -> tuple[list[Path], str]:
    from ctt.data.figures.animation import film_of_annotation, save_gif, save_trails

    settings = config.data
    if not settings.questions:
        find(settings)  # raises DataError that names what is missing
    files = question_files(Path(str(settings.questions)).expanduser())
    for path in files.values():
        if _print_questions(path, scene, console):
            break
    else:
        raise DataError(f"{settings.questions} has no questions on scene {scene}; it has {', '.join(files) or 'no files'}")
    if not settings.annotation_files:
        return [], (
            "no picture: data.annotation_files (the folder of the annotations) is missing; `ctt data fetch annotations` "
            "downloads them. Videos are not read"
        )
    film = film_of_annotation(Annotations(Path(settings.annotation_files).expanduser()).read(scene))
    picture, animation = _paths(to, scene)
    save_trails(film, picture)
    save_gif(film, animation)
    return [picture, animation], ""


def _paths(to: Path, scene: int) -> tuple[Path, Path]:
    to.mkdir(parents=True, exist_ok=True)
    return to / f"scene_{scene:05d}.png", to / f"scene_{scene:05d}.gif"


def _print_questions(path: Path, scene: int, console: Console, data_format: DataFormat = CLEVRER) -> bool:
    """Prints the scene's questions with a sign at right and wrong options; False if there is no such scene."""
    found = next((s for s in read_scenes(path) if isinstance(s, dict) and s.get("scene_index") == scene), None)
    if found is None:
        return False
    QuestionTable.build([found], np.array([scene]), str(path), data_format)  # raises DataError where it is malformed
    for question in found["questions"]:
        answer = "" if "choices" in question else question.get("answer", "")
        wording = f"{question['question_type']:14} {plain(question['question'])}  "
        console.print(Text.assemble(wording, (answer, "bold")), soft_wrap=True)
        for choice in question.get("choices", ()):
            sign = {"correct": ("✓", "green"), "wrong": ("✗", "red")}.get(choice.get("answer", ""), ("?", ""))
            console.print(Text.assemble(f"{'':14} ", sign, f" {plain(choice['choice'])}"), soft_wrap=True)
    return True
