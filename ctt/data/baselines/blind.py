"""Blind levels: the accuracies of always giving the training split's most frequent answer to the question's form.

They are a stronger baseline than 50 % per option, since the share of correct options differs between forms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ctt.core.errors import DataError
from ctt.data.accuracy import metrics_of
from ctt.data.questions.question_table import QuestionTable


def blind_levels(train: QuestionTable, validation: QuestionTable) -> dict[str, Any]:
    """The accuracies (as `metrics_of`) on `validation` of the majority answer per form, counted in `train`.

    Ties go to the smaller answer; a form that `train` lacks gets its category's majority.
    Raises DataError if answers are unknown (-1), as in a test split, or `train` lacks a whole category.
    """
    return metrics_of(blind_predictions(train, validation), validation.format.categories)


def blind_predictions(train: QuestionTable, validation: QuestionTable) -> pd.DataFrame:
    """The blind answers as a predictions table: scene, question_id, category, form, truth, prediction, correct."""
    counted, predictions = _frame(train), _frame(validation)
    by_form = _majority(counted, "form")
    by_category = _majority(counted, "category")
    guess = predictions["form"].map(by_form).fillna(predictions["category"].map(by_category))
    if guess.isna().any():
        category = predictions["category"][guess.isna()].iloc[0]
        raise DataError(f"the training split has no {category} question to count answers in")
    predictions["prediction"] = guess.astype(np.int64)
    predictions["correct"] = predictions["prediction"] == predictions["truth"]
    return predictions


def _frame(table: QuestionTable) -> pd.DataFrame:
    if len(table.answer) and np.min(table.answer) < 0:
        raise DataError("blind levels need answers; this split has questions without")
    return pd.DataFrame(
        {
            "scene": table.scene,
            "question_id": table.question_id,
            "category": table.category_names,
            "form": np.array(table.forms)[table.form],
            "truth": np.asarray(table.answer, np.int64),
        }
    )


def _majority(frame: pd.DataFrame, by: str) -> dict[str, int]:
    """{group: its most frequent `truth`, the smaller of ties}."""
    counts = frame.groupby([by, "truth"]).size().reset_index(name="count")
    counts = counts.sort_values(["count", "truth"], ascending=[False, True]).drop_duplicates(by)
    return dict(zip(counts[by].tolist(), counts["truth"].tolist(), strict=True))
