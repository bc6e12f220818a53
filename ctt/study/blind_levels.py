"""Answers without the video, for a sweep's table: the most frequent answer of each question form, and a model of the words.

They depend on the data set only and are kept in the store's folder `blind`, as the words of CLEVRER take a minute, each with the
hash of its bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ctt.core import atomic_files
from ctt.core.errors import DataError
from ctt.data.baselines.blind import blind_predictions
from ctt.data.baselines.words_only import words_only_predictions
from ctt.data.dataset import Dataset
from ctt.planning import Plan
from ctt.report.results import COLUMNS
from ctt.store import Store

MOST_FREQUENT = "most frequent answer of the form"
LEVELS = {MOST_FREQUENT: blind_predictions, "the question's words alone": words_only_predictions}
"""What a table calls each, and how it answers the validation split from the training split."""


def blind_answers(plan: Plan, store: Store) -> dict[str, pd.DataFrame]:
    """{label: the answers without the video} on the data of the baseline, for categories with training questions; {} where
    the data set is not in the store or has no questions with answers."""
    artifact = store.get(plan.lines[0].data.key)
    if artifact is None:
        return {}
    path = store.root / "blind" / f"{artifact.key}.parquet"
    if not _is_whole(path):
        try:
            both = _answers(artifact.path)
        except DataError:
            return {}
        _write(path, both)
    both = pd.read_parquet(path)
    return {label: both[both["level"] == label].drop(columns="level").reset_index(drop=True) for label in LEVELS}


def _answers(folder: Path) -> pd.DataFrame:
    dataset = Dataset.open(folder)
    train, validation = dataset.split("train").questions, dataset.split("validation").questions
    asked = validation.rows(np.isin(validation.category, train.category))
    if not len(asked.category):
        raise DataError(f"{folder} has no training questions")
    frames = []
    for label, answer in LEVELS.items():
        frame = answer(train, asked)
        frame["choice_id"] = np.asarray(asked.choice_id)
        frames.append(frame[COLUMNS].assign(level=label))
    return pd.concat(frames, ignore_index=True)


def _write(path: Path, frame: pd.DataFrame) -> None:
    atomic_files.make_folder(path.parent)
    with atomic_files.replacing(path) as temporary:
        frame.to_parquet(temporary)
    atomic_files.write(_hash_of(path), atomic_files.sha256(path).encode())


def _hash_of(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _is_whole(path: Path) -> bool:
    """Whether the file is as it was written."""
    try:
        return _hash_of(path).read_bytes() == atomic_files.sha256(path).encode()
    except FileNotFoundError:
        return False
