"""Imagined videos as ALOE sees them: which question sees which, gathered from a memory map."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ctt.core.errors import StoreError
from ctt.data.positions.removals import SPLITS, Removals

OBSERVED = -1
"""The row of a question that sees its observed video."""


def file_of(folder: Path, split: str) -> Path:
    """Where the imagined videos of a split are."""
    return folder / f"imagined_{split}.npy"


@dataclass(frozen=True)
class ImaginedFrames:
    """Videos of one split without an object: slots (P,F,S,D); questions (N,2): scene and question_id of those that see one
    of them, row (N,): which."""

    slots: np.ndarray
    questions: np.ndarray
    row: np.ndarray

    @classmethod
    def open(cls, removed: Path, imagined: Path) -> dict[str, ImaginedFrames]:
        """By split, from the artifacts of the stages `removed` and `imagined`. Raises StoreError if they do not fit together."""
        found = {}
        for split in SPLITS:
            asked, slots = Removals.load(removed, split), np.load(file_of(imagined, split), mmap_mode="r")
            if len(slots) != len(asked.pairs):
                raise StoreError(f"{file_of(imagined, split)} has {len(slots)} videos, and {removed} asks for {len(asked.pairs)}")
            found[split] = cls(slots, asked.questions, asked.row)
        return found

    def rows_of(self, scene: np.ndarray, question_id: np.ndarray) -> np.ndarray:
        """The videos (Q,) that questions see, OBSERVED where that is none of these."""
        known = {(int(s), int(q)): int(row) for (s, q), row in zip(self.questions, self.row, strict=True)}
        pairs = zip(scene.tolist(), question_id.tolist(), strict=True)
        return np.array([known.get(pair, OBSERVED) for pair in pairs], np.int64)

    @property
    def frames(self) -> Tensor:
        """Each frame as a row (P·F, S·D), in the stored number format, sharing the memory map's pages."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nothing writes to it
            rows = torch.from_numpy(np.asarray(self.slots))
        return rows.view(len(self.slots) * self.slots.shape[1], -1)


Imaginations = Mapping[str, ImaginedFrames]
"""By split. A split without imagined videos is not answered."""
