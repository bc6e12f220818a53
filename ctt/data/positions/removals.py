"""Removals: the pairs of a video and an object that counterfactual questions ask about, as a file.

Several questions may remove the same object of a video: they have one pair, which is imagined once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ctt.core.errors import DataError
from ctt.data.positions.objects import SlotObjects

SPLITS = ("train", "validation")
"""The splits whose programs and objects are known: CLEVRER's test split has neither."""


@dataclass(frozen=True)
class Removals:
    """What the counterfactual questions of a split remove.

    pairs (P, 2): each video and number of an object, once; questions (N, 2): scene and question_id of those that can be read;
    row (N,): the pair of each; objects: those of the split's videos."""

    pairs: np.ndarray
    questions: np.ndarray
    row: np.ndarray
    objects: SlotObjects

    def save(self, folder: Path, split: str) -> None:
        objects = {name: getattr(self.objects, name) for name in ("kinds", "first", "last")}
        np.savez(_file(folder, split), pairs=self.pairs, questions=self.questions, row=self.row, **objects)

    @classmethod
    def load(cls, folder: Path, split: str) -> Removals:
        """Raises DataError if the file is missing or malformed."""
        path = _file(folder, split)
        try:
            with np.load(path, allow_pickle=False) as stored:
                objects = SlotObjects(stored["kinds"], stored["first"], stored["last"])
                return cls(stored["pairs"], stored["questions"], stored["row"], objects)
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            raise DataError(f"{path} does not hold removed objects ({error})") from None


def _file(folder: Path, split: str) -> Path:
    return folder / f"removed_{split}.npz"
