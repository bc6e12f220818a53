"""QuestionTable: an official question file as arrays, one row per ALOE sequence.

A descriptive question is one row, a multiple-choice question one row per choice, in the file's order.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ctt.core.errors import DataError
from ctt.core.regular_files import read_regular
from ctt.data.questions.language import form
from ctt.data.questions.vocab import CATEGORIES, CHOICE_LENGTH, QUESTION_LENGTH, answer_id, tokenise

UNKNOWN = -1
LARGEST = 2 << 30
"""Maximum bytes of a question file; the official ones have about a hundred megabytes."""
_PACKED = (b"\x1f\x8b", b"PK\3\4", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
"""The first bytes of gzip, zip, bzip2, xz and zstandard files."""
_VERDICTS = {"wrong": 0, "correct": 1}


@dataclass(frozen=True)
class QuestionTable:
    """R rows. Texts are vocabulary ids, padded with 0; `forms` names the values of `form`.

    answer: the class 1..21 of a descriptive row, 0 (wrong) or 1 (correct) of a choice, -1 if the file has none.
    """

    video: np.ndarray  # (R,) int32, row of the split's slots
    scene: np.ndarray  # (R,) int32, scene_index
    question_id: np.ndarray  # (R,) int32
    choice_id: np.ndarray  # (R,) int32, -1 for descriptive rows
    category: np.ndarray  # (R,) int8, index in CATEGORIES
    form: np.ndarray  # (R,) int16, index in forms
    question_tokens: np.ndarray  # (R, 20) uint8
    choice_tokens: np.ndarray  # (R, 12) uint8, all 0 for descriptive rows
    answer: np.ndarray  # (R,) int8
    forms: list[str]

    def __len__(self) -> int:
        return len(self.video)

    @property
    def answered(self) -> bool:
        """Whether every row's answer is known (False for a test split)."""
        return bool((self.answer != UNKNOWN).all())

    def rows(self, chosen: np.ndarray) -> QuestionTable:
        """The table of the rows where `chosen` (R,) is true."""
        columns = {f.name: getattr(self, f.name)[chosen] for f in fields(self) if f.name != "forms"}
        return QuestionTable(**columns, forms=self.forms)

    @classmethod
    def read(cls, path: Path, scene_index: np.ndarray) -> QuestionTable:
        """The table of a question file whose scenes' videos are in the order of `scene_index` (V,).
        Raises DataError naming file, scene and question if something is malformed."""
        return cls.build(read_scenes(Path(path)), scene_index, str(path))

    @classmethod
    def build(cls, scenes: list[Any], scene_index: np.ndarray, source: str = "questions") -> QuestionTable:
        """The same from the parsed file; `source` names it in errors."""
        row_of = {int(scene): row for row, scene in enumerate(scene_index)}
        forms: dict[str, int] = {}
        numbers: list[tuple[int, int, int, int, int, int, int]] = []
        questions, choices = bytearray(), bytearray()
        padded: dict[tuple[str, int], bytes] = {}

        def text(words: str, length: int) -> bytes:
            if (words, length) not in padded:
                padded[words, length] = _padded(words, length)
            return padded[words, length]

        for scene, question, where in _walk(scenes, row_of, source):
            category = CATEGORIES.index(question["question_type"])
            number = forms.setdefault(form(question), len(forms))
            start = (row_of[scene], scene, question["question_id"])
            try:
                tokens = text(question["question"], QUESTION_LENGTH)
                if category == 0:
                    answer = answer_id(question["answer"]) if "answer" in question else UNKNOWN
                    numbers.append((*start, -1, category, number, answer))
                    questions += tokens
                    choices += bytes(CHOICE_LENGTH)
                    continue
                for choice in _choices(question):
                    numbers.append((*start, choice["choice_id"], category, number, _verdict(choice)))
                    questions += tokens
                    choices += text(choice["choice"], CHOICE_LENGTH)
            except DataError as error:
                raise DataError(f"{where}: {error}") from None
        columns = np.array(numbers, np.int64).reshape(-1, 7).T
        names = ("video", "scene", "question_id", "choice_id", "category", "form", "answer")
        kinds = (np.int32, np.int32, np.int32, np.int32, np.int8, np.int16, np.int8)
        return cls(
            **{name: column.astype(kind) for name, column, kind in zip(names, columns, kinds, strict=True)},
            question_tokens=np.frombuffer(bytes(questions), np.uint8).reshape(-1, QUESTION_LENGTH),
            choice_tokens=np.frombuffer(bytes(choices), np.uint8).reshape(-1, CHOICE_LENGTH),
            forms=list(forms),
        )

    def save(self, path: Path) -> None:
        """Writes the table as one npz file."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "forms"}
        with open(path, "wb") as file:
            np.savez(file, forms=np.array(self.forms, dtype=np.str_), **arrays)

    @classmethod
    def load(cls, path: Path) -> QuestionTable:
        """Reads a file of `save`. Raises DataError if it is missing or damaged."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {f.name: stored[f.name] for f in fields(cls)}
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
            raise DataError(f"{path} is not a question table ({error})") from None
        return cls(**{**arrays, "forms": [str(name) for name in arrays["forms"]]})


def read_scenes(path: Path) -> list[Any]:
    """The entries of a question file. Raises DataError if it is missing, unreadable, not JSON or not a list."""
    data = read_regular(path, LARGEST)
    if data.startswith(_PACKED):
        raise DataError(f"{path} is compressed; unpack it first")
    try:
        scenes = json.loads(data)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not valid JSON: it is not UTF-8 text ({error})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}); it may be cut off") from None
    if not isinstance(scenes, list):
        raise DataError(f"{path} must hold a list of scenes, not {_kind(scenes)}")
    return scenes


def _padded(words: str, length: int) -> bytes:
    ids = tokenise(words)
    if len(ids) > length:
        raise DataError(f"{words!r} has {len(ids)} words, more than the {length} allowed")
    return bytes(ids).ljust(length, b"\0")


def _walk(scenes: list[Any], known: Mapping[int, int], source: str) -> Iterator[tuple[int, dict[str, Any], str]]:
    """(scene_index, question, its location for errors) of every question, with the checks common to all categories."""
    seen: set[int] = set()
    for place, scene in enumerate(scenes):
        where = f"{source}, entry {place}"
        if not isinstance(scene, dict):
            raise DataError(f"{where}: a scene must be an object, not {_kind(scene)}")
        index = _get(scene, "scene_index", int, where)
        where = f"{source}, scene {index}"
        if index in seen:
            raise DataError(f"{where}: the scene occurs twice")
        seen.add(index)
        if index not in known:
            raise DataError(f"{where}: the split has no video of this scene")
        ids: set[int] = set()
        for number, question in enumerate(_get(scene, "questions", list, where)):
            if not isinstance(question, dict):
                raise DataError(f"{where}, question {number}: a question must be an object, not {_kind(question)}")
            identity = _get(question, "question_id", int, f"{where}, question {number}")
            at = f"{where}, question {identity}"
            if identity in ids:
                raise DataError(f"{at}: the question_id occurs twice")
            ids.add(identity)
            if _get(question, "question_type", str, at) not in CATEGORIES:
                kinds, got = ", ".join(CATEGORIES), question["question_type"]
                raise DataError(f"{at}: question_type must be one of {kinds}, got {got!r}")
            _get(question, "question", str, at)
            yield index, question, at


def _choices(question: dict[str, Any]) -> Iterator[dict[str, Any]]:
    seen: set[int] = set()
    choices = _get(question, "choices", list)
    if not choices:
        raise DataError("choices is empty")
    for place, choice in enumerate(choices):
        if not isinstance(choice, dict):
            raise DataError(f"choice {place} must be an object, not {_kind(choice)}")
        identity = _get(choice, "choice_id", int, f"choice {place}")
        if identity in seen:
            raise DataError(f"choice {place}: the choice_id {identity} occurs twice")
        seen.add(identity)
        _get(choice, "choice", str, f"choice {place}")
        yield choice


def _verdict(choice: dict[str, Any]) -> int:
    if "answer" not in choice:
        return UNKNOWN
    if not isinstance(choice["answer"], str) or choice["answer"] not in _VERDICTS:
        raise DataError(f"choice {choice['choice_id']}: answer must be correct or wrong, got {choice['answer']!r}")
    return _VERDICTS[choice["answer"]]


def _get(record: dict[str, Any], key: str, kind: type, where: str = "") -> Any:
    """record[key]. Raises DataError unless it has exactly the type `kind` (a bool is not an int)."""
    at = f"{where}: " if where else ""
    if key not in record:
        raise DataError(f"{at}{key} is missing")
    value = record[key]
    if type(value) is not kind:
        raise DataError(f"{at}{key} must be {_NAMES[kind]}, got {_kind(value)}")
    if isinstance(value, int) and not 0 <= value < 2**31:
        raise DataError(f"{at}{key} must be from 0 to 2147483647, got {value}")
    return value


_NAMES = {int: "an integer", str: "a text", list: "a list", dict: "an object"}
_NAMES |= {float: "a fraction", bool: "true or false", type(None): "null"}


def _kind(value: Any) -> str:
    return _NAMES.get(type(value), type(value).__name__)
