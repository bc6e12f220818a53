"""Blind levels: what is answered by always giving the training split's most frequent answer of the question's form.

50 % per option is too weak a floor: forms differ in how often their options are right, so every accuracy is compared with this.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ctt.core.errors import DataError
from ctt.data.accuracy import metrics_of
from ctt.data.questions.question_table import QuestionTable
from ctt.data.questions.vocab import CATEGORIES


def blind_levels(train: QuestionTable, validation: QuestionTable) -> dict[str, Any]:
    """The accuracies (as `metrics_of`) of the majority answer per form, counted in `train` and given in `validation`.

    Of equally frequent answers the smaller is given; a form that `train` lacks gets its category's majority.
    Raises DataError if answers are unknown (-1), as in a test split, or a whole category is missing from `train`.
    """
    return metrics_of(blind_predictions(train, validation))


def blind_predictions(train: QuestionTable, validation: QuestionTable) -> pd.DataFrame:
    """The blind answers as a predictions table: scene, question_id, category, form, truth, prediction, correct."""
    counted, asked = _frame(train), _frame(validation)
    by_form = _majority(counted, "form")
    by_category = _majority(counted, "category")
    guess = asked["form"].map(by_form).fillna(asked["category"].map(by_category))
    if guess.isna().any():
        category = asked["category"][guess.isna()].iloc[0]
        raise DataError(f"the training split has no {category} question to count answers from")
    asked["prediction"] = guess.astype(np.int64)
    asked["correct"] = asked["prediction"] == asked["truth"]
    return asked


def _frame(table: QuestionTable) -> pd.DataFrame:
    if len(table.answer) and np.min(table.answer) < 0:
        raise DataError("blind levels need answers; this split has none")
    return pd.DataFrame(
        {
            "scene": table.scene,
            "question_id": table.question_id,
            "category": np.array(CATEGORIES)[table.category],
            "form": np.array(table.forms)[table.form],
            "truth": np.asarray(table.answer, np.int64),
        }
    )


def _majority(frame: pd.DataFrame, by: str) -> dict[str, int]:
    """{group: its most frequent `truth`, the smaller of ties}."""
    counts = frame.groupby([by, "truth"]).size().reset_index(name="count")
    counts = counts.sort_values(["count", "truth"], ascending=[False, True]).drop_duplicates(by)
    return dict(zip(counts[by].tolist(), counts["truth"].tolist(), strict=True))
