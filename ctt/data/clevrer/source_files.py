"""CLEVRER's own files: which of them a run needs, how they are identified, and the data set built from them.

A run needs imported slots and official question files for train and validation; test is used if both have it. The data
set is identified by a digest of the slots and question files, so moving or renaming them changes nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ctt.core.build_context import BuildContext
from ctt.core.errors import DataError
from ctt.core.settings import digest
from ctt.data.clevrer.checksums import checksums
from ctt.data.clevrer.imported_slots import ImportedSlots, Part, identity_of, sha256_of
from ctt.data.data_format import CLEVRER, SPLITS
from ctt.data.data_settings import PROVISIONAL, DataSettings
from ctt.data.dataset import write_manifest
from ctt.data.questions.question_table import QuestionTable, read_scenes

NEEDED = ("train", "validation")
QUESTION_NAMES = {"train": ("train.json",), "validation": ("validation.json", "val.json"), "test": ("test.json",)}
SKIP = "data.missing=skip leaves their questions out"
HELP = "run `ctt data setup`, or `ctt data fetch` and `ctt data import`; data=quick, data=mini and data=synthetic need no files"


@dataclasses.dataclass(frozen=True)
class Sources:
    """The files of a run: slots and, by split, question files; `left_out` explains a missing test split."""

    slots: ImportedSlots
    questions: dict[str, Path]
    left_out: str = ""

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.questions)

    @property
    def content(self) -> str:
        """Digest of the files' content, independent of their names."""
        slots = {split: identity_of(self.slots.parts[split]) for split in self.splits}
        return digest({"slots": slots, "questions": {split: known_hash(path) for split, path in self.questions.items()}})

    @property
    def counts(self) -> dict[str, int]:
        return {split: self.slots.parts[split].videos for split in self.splits}


@dataclasses.dataclass(frozen=True)
class Found:
    """The existing files among those that the settings name, and a sentence for each missing one."""

    slots: ImportedSlots | None
    questions: dict[str, Path]
    missing: list[str]

    @property
    def splits(self) -> list[str]:
        """The splits that have slots and questions."""
        return [split for split in SPLITS if self.slots and split in self.slots.parts and split in self.questions]

    @property
    def left_out(self) -> str:
        given = self.slots.parts if self.slots else {}
        if "test" in self.splits or not ("test" in given or "test" in self.questions):
            return ""
        return f"test is left out: it has no {'questions' if 'test' in given else 'slots'}"


def look(settings: DataSettings) -> Found:
    """Looks for the files that the settings name; of slots, only the manifest is read."""
    missing: list[str] = []
    named = {"slots_file (imported slots)": settings.slots_file}
    named["questions (the folder of the official question files)"] = settings.questions
    if unset := [f"data.{name}" for name, value in named.items() if not value]:
        missing.append(f"data=clevrer needs {' and '.join(unset)}; {HELP}")
    slots, questions = None, {}
    if settings.slots_file:
        try:
            slots = ImportedSlots.from_manifest(Path(settings.slots_file).expanduser())
            have = ", ".join(slots.parts)
            missing += [f"{slots.folder} has no slots of split {s}; it has {have}" for s in NEEDED if s not in slots.parts]
            if settings.missing != "skip":
                gaps = {split: part.missing for split, part in slots.parts.items() if part.missing}
                missing += [f"{slots.folder} lacks {_some(s, gaps[s])}; {SKIP}" for s in gaps]
        except DataError as error:
            missing.append(str(error))
    if settings.questions:
        try:
            questions = question_files(Path(settings.questions).expanduser())
            names = {split: " or ".join(QUESTION_NAMES[split]) for split in NEEDED if split not in questions}
            missing += [f"{settings.questions} has no {name}; {HELP}" for name in names.values()]
        except DataError as error:
            missing.append(str(error))
    return Found(slots, questions, missing)


def find(settings: DataSettings) -> Sources:
    """The files that the settings name. Raises DataError, naming a missing file, before anything large is read."""
    found = look(settings)
    if found.missing or found.slots is None:
        raise DataError(found.missing[0])
    for part in found.slots.parts.values():
        found.slots.check(part)
    return Sources(found.slots, {split: found.questions[split] for split in found.splits}, found.left_out)


def question_files(folder: Path) -> dict[str, Path]:
    """The official question files of a folder by split. Raises DataError if validation.json and val.json differ."""
    if not folder.is_dir():
        raise DataError(f"the questions' folder {folder} is missing; {HELP}")
    found = {}
    for split, names in QUESTION_NAMES.items():
        paths = [folder / name for name in names if (folder / name).is_file()]
        if len(paths) > 1 and known_hash(paths[0]) != known_hash(paths[1]):
            raise DataError(f"{paths[0]} and {paths[1]} both exist and differ; remove one")
        if paths:
            found[split] = paths[0]
    return found


def resolved(settings: DataSettings) -> DataSettings:
    """The settings with `content` and counts taken from the files.

    While these are missing: unchanged counts and a provisional content made of their paths, so that settings differ."""
    try:
        sources = find(settings)
    except DataError:
        places = digest([settings.slots_file, settings.questions])[:12]
        return dataclasses.replace(settings, content=f"{PROVISIONAL} {places}")
    train, validation, test = (sources.counts.get(split, 0) for split in SPLITS)
    return dataclasses.replace(settings, content=sources.content, train=train, validation=validation, test=test)


def assemble(settings: DataSettings, context: BuildContext) -> dict[str, Any]:
    """Builds the data set in context.folder from the files; returns facts about them. Slots are linked, not copied.

    Raises DataError if the questions are malformed, or if questions and videos are not about the same scenes.
    """
    sources = find(settings)
    if settings.content is not None and sources.content != settings.content:
        raise DataError("the slots or question files changed since this run was planned; start it again")
    away: dict[str, dict[str, Any]] = {}
    first: dict[str, int] = {}
    facts: dict[str, Any] = {"source": sources.slots.source, "frames_in_source": sources.slots.frames}
    if sources.left_out:
        facts["left_out"] = sources.left_out
    total = 2 * len(sources.splits)
    for number, (split, path) in enumerate(sources.questions.items()):
        part = sources.slots.parts[split]
        fit = check_questions(path, split, part, settings.missing == "skip")
        first[split] = fit.first
        if fit.notes:
            facts.setdefault("notes", []).extend(fit.notes)
        context.progress(2 * number + 1, total, "file")
        questions = context.folder / f"questions_{split}.json"
        if fit.left_out:
            facts.setdefault("questions_left_out", {})[split] = fit.left_out
            questions.write_text(json.dumps(fit.scenes), encoding="utf-8")
        else:
            shutil.copyfile(path, questions)
        if part.missing:
            np.save(context.folder / f"scenes_{split}.npy", np.array(part.scenes, np.int64) + fit.first - part.first)
        name = f"slots_{split}.npy"
        if not link(sources.slots.path(part), context.folder / name):
            place = sources.slots.path(part).resolve()
            away[name] = dict(path=str(place), size=part.size, mtime_ns=place.stat().st_mtime_ns, sha256=part.sha256)
        context.progress(2 * number + 2, total, "file")
        if context.stopping:
            context.stop()
    data_format = dataclasses.replace(CLEVRER, slots=sources.slots.slots, width=sources.slots.width)
    write_manifest(context.folder, settings.kind, data_format, sources.counts, first, away)
    return facts


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a question file fits its split's videos: the scene_index of the first video, the entries on existing videos, the
    number of questions that are left out with the others, and notes."""

    first: int
    scenes: list[Any]
    left_out: int
    notes: list[str]


def check_questions(path: Path, split: str, part: Part, skip: bool = False) -> Fit:
    """Compares questions and videos. `skip`: the questions on videos that are missing are left out.

    Raises DataError if questions and videos are not about the same scenes, a question is malformed, or a question of
    train or validation has no answer."""
    scenes = read_scenes(path)
    numbered = sorted({scene["scene_index"] for scene in scenes if _indexed(scene)})
    offset, notes = 0, []
    base = {"validation": 10_000, "test": 15_000}.get(split)
    if base and numbered and numbered[0] >= base > part.scenes[-1]:  # the videos' names count within the split
        offset = base
        notes.append(f"{split}: video 0 is scene {base}, as the questions number them")
    videos = [scene + offset for scene in part.scenes]
    have = set(videos)
    missing = [scene for scene in numbered if scene not in have]
    left_out = 0
    if missing and not skip:
        raise DataError(f"{path} asks about {_some(split, missing)} that {'have' if len(missing) > 1 else 'has'} no slots; {SKIP}")
    if missing:
        kept = [scene for scene in scenes if not _indexed(scene) or scene["scene_index"] in have]
        left_out = _questions(scenes) - _questions(kept)
        notes.append(f"{split}: {left_out} questions are left out: {_some(split, missing)} have no slots")
        scenes = kept
    table = QuestionTable.build(scenes, np.array(videos), str(path))
    if split in NEEDED and not table.answered:
        raise DataError(f"{path}, {table.unanswered}; {split} needs answers, only test may lack them")
    asked = set(numbered)
    without = [scene for scene in videos if scene not in asked]
    if without:
        raise DataError(f"{path} has no questions for {_some(split, without)}")
    return Fit(part.first + offset, scenes, left_out, notes)


def _questions(scenes: list[Any]) -> int:
    return sum(len(scene["questions"]) for scene in scenes if isinstance(scene, dict) and isinstance(scene.get("questions"), list))


def _some(split: str, scenes: Sequence[int]) -> str:
    """A number of videos, and the first few scenes."""
    some = ", ".join(map(str, scenes[:5])) + (" …" if len(scenes) > 5 else "")
    return f"{len(scenes)} {split} video{'s' if len(scenes) > 1 else ''} (scene{'s' if len(scenes) > 1 else ''} {some})"


def _indexed(scene: Any) -> bool:
    return isinstance(scene, dict) and type(scene.get("scene_index")) is int


def link(source: Path, target: Path) -> bool:
    """Hard-links `target` to `source`, so that nothing is copied and jobs share its pages; False if impossible."""
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True


def known_hash(path: Path) -> str:
    """sha256 of a file, cached across processes by path, size and time (in the user's cache folder)."""
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    return _known_hash(os.path.realpath(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _known_hash(path: str, size: int, mtime_ns: int) -> str:
    return str(checksums([Path(path)], "sha256.json", sha256_of)[Path(path)])
