"""Slots that hold their frame's number, so that the first frames drawn for a batch's questions can be read from it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from ctt.data.dataset import Dataset
from ctt.training.vqa import STEPS_ARRANGED, VqaLearner

UNIT = 100
"""A slot's first value is its frame's number divided by this."""


def numbered(dataset: Dataset, rollouts: dict[str, np.ndarray]) -> tuple[Any, dict[str, np.ndarray]]:
    """The data set and its rollouts with frames 0 to 127 and 128 to 159 numbered."""
    frames = np.arange(160, dtype=np.float32)[:, None] / UNIT
    splits = {}
    for name, predicted in rollouts.items():
        splits[name] = dataset.split(name)
        splits[name].slots = np.array(splits[name].slots)
        splits[name].slots[..., 0], predicted[..., 0] = frames[:128], frames[128:]
    return SimpleNamespace(folder=dataset.folder, split=splits.__getitem__), rollouts


def first_frames(learner: VqaLearner, epoch: int, step: int) -> dict[int, int]:
    """{question: its first frame} of one training step."""
    first = step - step % STEPS_ARRANGED
    found = {}
    for piece in learner.arranged(epoch, first).pieces(step - first):
        seen = piece.input.given[piece.input.owner, 0, 0, 0].float().numpy() * UNIT
        found |= dict(zip(learner.train_split.question[piece.rows].tolist(), np.rint(seen).astype(int).tolist(), strict=True))
    return found
