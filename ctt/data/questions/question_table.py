"""QuestionTable: an official question file as arrays, one row per ALOE sequence.

A question without choices is one row, one with choices a row per choice, in the file's order.
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
from ctt.data.categories import Categories
from ctt.data.data_format import CLEVRER, DataFormat
from ctt.data.questions.language import form
from ctt.data.questions.vocab import PADDING, Vocabulary

UNKNOWN = -1
_PACKED = (b"\x1f\x8b", b"PK\3\4", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
"""The first bytes of gzip, zip, bzip2, xz and zstandard files."""
_VERDICTS = {"wrong": 0, "correct": 1}


@dataclass(frozen=True)
class QuestionTable:
    """R rows. Texts are vocabulary ids, padded with 0 to the lengths of the vocabulary; `forms` names the values of `form`.

    answer: the class (from 1) of a question without choices, 0 (wrong) or 1 (correct) of a choice, -1 if the file has none.
    format: of the data set, with the categories and the vocabulary.
    """

    video: np.ndarray  # (R,) int32, row of the split's slots
    scene: np.ndarray  # (R,) int32, scene_index
    question_id: np.ndarray  # (R,) int32
    choice_id: np.ndarray  # (R,) int32, -1 without choices
    category: np.ndarray  # (R,) int8, index in format.categories
    form: np.ndarray  # (R,) int16, index in forms
    question_tokens: np.ndarray  # (R, 20) uint8; uint16 of more than 255 words
    choice_tokens: np.ndarray  # (R, 12), all 0 without choices
    answer: np.ndarray  # (R,) int8; int16 of more than 127 answers
    forms: list[str]
    format: DataFormat = CLEVRER

    def __len__(self) -> int:
        return len(self.video)

    @property
    def answered(self) -> bool:
        """Whether every row's answer is known (False for a test split)."""
        return bool((self.answer != UNKNOWN).all())

    @property
    def unanswered(self) -> str:
        """The first row without an answer, and how many more there are: "scene 7, question 2: answer is missing"."""
        rows = np.flatnonzero(self.answer == UNKNOWN)
        row = rows[0]
        choice = f", choice {self.choice_id[row]}" if self.choice_id[row] >= 0 else ""
        more = f" (and {len(rows) - 1} more have none)" if len(rows) > 1 else ""
        return f"scene {self.scene[row]}, question {self.question_id[row]}{choice}: answer is missing{more}"

    @property
    def has_choices(self) -> np.ndarray:
        """(R,) bool: whether the row is a choice."""
        choices = np.array([category.choices for category in self.format.categories], bool)
        return choices[self.category] if len(choices) else np.zeros(len(self), bool)

    @property
    def category_names(self) -> np.ndarray:
        """(R,) the name of each row's category."""
        names: np.ndarray = np.array(self.format.categories.names, dtype=np.str_)
        return np.asarray(names[self.category])

    def rows(self, chosen: np.ndarray) -> QuestionTable:
        """The table of the rows where `chosen` (R,) is true."""
        return QuestionTable(**{n: getattr(self, n)[chosen] for n in COLUMNS}, forms=self.forms, format=self.format)

    @classmethod
    def read(cls, path: Path, scene_index: np.ndarray, data_format: DataFormat = CLEVRER) -> QuestionTable:
        """The table of a question file whose scenes' videos are in the order of `scene_index` (V,).
        Raises DataError naming file, scene and question if something is malformed."""
        return cls.build(read_scenes(Path(path)), scene_index, str(path), data_format)

    @classmethod
    def build(
        cls, scenes: list[Any], scene_index: np.ndarray, source: str = "questions", data_format: DataFormat = CLEVRER
    ) -> QuestionTable:
        """The same from the parsed file; `source` names it in errors."""
        categories, vocabulary = data_format.categories, data_format.vocabulary
        question_length, choice_length = vocabulary.question_length, vocabulary.choice_length
        token = np.dtype(np.uint8 if len(vocabulary.words) <= 255 else np.uint16)
        answer_class = np.int8 if len(vocabulary.answers) <= 127 else np.int16
        row_of = {int(scene): row for row, scene in enumerate(scene_index)}
        forms: dict[str, int] = {}
        numbers: list[tuple[int, int, int, int, int, int, int]] = []
        questions, choices = bytearray(), bytearray()
        padded: dict[tuple[str, int], bytes] = {}

        def text(words: str, length: int) -> bytes:
            if (words, length) not in padded:
                padded[words, length] = _padded(vocabulary, words, length, token)
            return padded[words, length]

        for scene, question, where in _walk(scenes, row_of, source, categories):
            category = categories.names.index(question["question_type"])
            number = forms.setdefault(form(question), len(forms))
            start = (row_of[scene], scene, question["question_id"])
            try:
                tokens = text(question["question"], question_length)
                if not categories.all[category].choices:
                    answer = vocabulary.answer_id(question["answer"]) if "answer" in question else UNKNOWN
                    numbers.append((*start, -1, category, number, answer))
                    questions += tokens
                    choices += bytes(choice_length * token.itemsize)
                    continue
                for choice in _choices(question):
                    numbers.append((*start, choice["choice_id"], category, number, _verdict(choice)))
                    questions += tokens
                    choices += text(choice["choice"], choice_length)
            except DataError as error:
                raise DataError(f"{where}: {error}") from None
        columns = np.array(numbers, np.int64).reshape(-1, 7).T
        names = ("video", "scene", "question_id", "choice_id", "category", "form", "answer")
        kinds = (np.int32, np.int32, np.int32, np.int32, np.int8, np.int16, answer_class)
        return cls(
            **{name: column.astype(kind) for name, column, kind in zip(names, columns, kinds, strict=True)},
            question_tokens=np.frombuffer(bytes(questions), token).reshape(len(numbers), question_length),
            choice_tokens=np.frombuffer(bytes(choices), token).reshape(len(numbers), choice_length),
            forms=list(forms),
            format=data_format,
        )

    def save(self, path: Path) -> None:
        """Writes the table as one npz file."""
        arrays = {name: getattr(self, name) for name in COLUMNS}
        with open(path, "wb") as file:
            np.savez(file, forms=np.array(self.forms, dtype=np.str_), **arrays)

    @classmethod
    def load(cls, path: Path) -> QuestionTable:
        """Reads a file of `save`. Raises DataError if it is missing or damaged."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in (*COLUMNS, "forms")}
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
            raise DataError(f"{path} is not a question table ({error})") from None
        return cls(**{**arrays, "forms": [str(name) for name in arrays["forms"]]})


COLUMNS = tuple(field.name for field in fields(QuestionTable) if field.name not in ("forms", "format"))
"""The arrays of a table, one entry a row."""


def read_scenes(path: Path) -> list[Any]:
    """The entries of a question file. Raises DataError if it is missing, unreadable, not JSON or not a list."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None
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


def _padded(vocabulary: Vocabulary, words: str, length: int, token: np.dtype[Any]) -> bytes:
    ids = vocabulary.tokenise(words)
    if len(ids) > length:
        raise DataError(f"{words!r} has {len(ids)} words, more than the {length} allowed")
    return np.array([*ids, *[PADDING] * (length - len(ids))], token).tobytes()


def _walk(
    scenes: list[Any], known: Mapping[int, int], source: str, categories: Categories
) -> Iterator[tuple[int, dict[str, Any], str]]:
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
            if _get(question, "question_type", str, at) not in categories.names:
                kinds, got = ", ".join(categories.names), question["question_type"]
                remedy = "" if categories == CLEVRER.categories else "; or add it to the categories that the source declares"
                raise DataError(f"{at}: question_type must be one of {kinds}, got {got!r}{remedy}")
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
