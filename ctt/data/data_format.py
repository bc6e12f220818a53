"""DataFormat: what `dataset.json` records of a data set, and every later stage reads from there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctt.core.errors import DataError
from ctt.data.categories import CLEVRER_CATEGORIES, NO_QUESTIONS, Categories, Category
from ctt.data.questions.vocab import CLEVRER_VOCABULARY, Vocabulary

SPLITS = ("train", "validation", "test")
BOUNDS = {"frames": (2, 100_000), "slots": (5, 24), "width": (32, 512)}
"""The smallest and the largest value of each size."""
REMEDIES = {
    "frames": "cut or join videos",
    "slots": "add empty slots, or leave some out",
    "width": "add zeros to every slot, or project slots to fewer numbers",
}


@dataclass(frozen=True)
class DataFormat:
    """A video has `frames` given frames of `slots` slots, each `width` numbers.

    categories: what is asked, nothing if there are no questions; vocabulary: of questions and answers; positions: the unit of
    objects' positions, "" if there are none. Raises DataError naming the field, its value and a remedy.
    """

    frames: int
    slots: int
    width: int
    categories: Categories = NO_QUESTIONS
    vocabulary: Vocabulary = CLEVRER_VOCABULARY
    positions: str = ""

    def __post_init__(self) -> None:
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise DataError(f"{name} must be from {low} to {high}, got {value!r}; {REMEDIES[name]}")

    @property
    def like_clevrer(self) -> bool:
        """Whether its questions are CLEVRER's, so that there are published figures and programs."""
        return self.categories == CLEVRER_CATEGORIES and self.vocabulary == CLEVRER_VOCABULARY

    @property
    def other_sizes(self) -> tuple[int, ...]:
        """Frames, slots and width where they are not CLEVRER's, else nothing: what costs depend on besides settings."""
        sizes = (self.frames, self.slots, self.width)
        return () if sizes == (CLEVRER.frames, CLEVRER.slots, CLEVRER.width) else sizes

    def as_json(self) -> dict[str, Any]:
        """The fields of dataset.json."""
        sizes = {name: getattr(self, name) for name in BOUNDS}
        asked = {"categories": [dataclasses.asdict(category) for category in self.categories]}
        return {**sizes, **asked, **dataclasses.asdict(self.vocabulary), "positions": self.positions}

    def differences(self, other: DataFormat) -> list[str]:
        """The fields of dataset.json in which `other` differs."""
        mine, theirs = self.as_json(), other.as_json()
        return [name for name in mine if mine[name] != theirs[name]]


def window_starts(frames: int, length: int, frameskip: int, all_starts: bool) -> int:
    """The number of windows of `length` frames, `frameskip` apart, in a video; below 1 if none fits. Without `all_starts` the
    last frameskip − 1 of them are left out."""
    return frames - (length - 1) * frameskip if all_starts else frames - length * frameskip + 1


CLEVRER = DataFormat(128, 7, 128, CLEVRER_CATEGORIES, CLEVRER_VOCABULARY, "table units")
"""CLEVRER's format and the embedded data set's."""


def format_of(found: Mapping[str, Any]) -> DataFormat:
    """The format in the content of a dataset.json. Files of earlier versions lack all fields but the sizes: what they lack
    has CLEVRER's value. Raises DataError naming the field."""
    missing = [name for name in BOUNDS if name not in found]
    if missing:
        raise DataError(f"{missing[0]} is missing")
    known = {**CLEVRER.as_json(), **{name: found[name] for name in CLEVRER.as_json() if name in found}}
    if not isinstance(known["categories"], list):
        raise DataError(f"categories must be a list, got {known['categories']!r}; write [] for data without questions")
    if not isinstance(known["positions"], str):
        raise DataError(f"positions must be the unit of positions, a text; got {known['positions']!r}")
    spoken: dict[str, Any] = {field.name: known[field.name] for field in dataclasses.fields(Vocabulary)}
    spoken |= {name: tuple(value) for name, value in spoken.items() if isinstance(value, list)}
    vocabulary = Vocabulary(**spoken)
    asked = Categories(tuple(_category(entry) for entry in known["categories"]))
    return DataFormat(known["frames"], known["slots"], known["width"], asked, vocabulary, known["positions"])


def _category(entry: Any) -> Category:
    kinds = {"name": str, "choices": bool, "future": bool}
    given = entry if isinstance(entry, dict) else {}
    if "name" not in given or any(type(value) is not kinds.get(key) for key, value in given.items()):
        raise DataError(f'categories: {entry!r} is not {{"name": …, "choices": true or false, "future": true or false}}')
    return Category(**given)
