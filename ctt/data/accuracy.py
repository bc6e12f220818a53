"""Accuracies of a table of predictions, counted as in the published evaluation.

A predictions table has one row per ALOE sequence (a question without choices, or one choice of a question with some) with
at least the columns `scene`, `question_id`, `category` and `correct`; `form` adds the breakdown. All accuracies are in percent.
Per option: the share of rows that are correct. Per question: a question counts when all its rows are correct.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from ctt.core.errors import DataError
from ctt.data.categories import CLEVRER_CATEGORIES, Categories

NEEDED = ("scene", "question_id", "category", "correct")


def questions_of(predictions: pd.DataFrame, categories: Categories = CLEVRER_CATEGORIES) -> pd.DataFrame:
    """One row per question (scene, question_id), in the table's order: category, form (of its first row), options, correct."""
    missing = [name for name in NEEDED if name not in predictions.columns]
    if missing:
        raise DataError(f"a table of predictions needs the columns {', '.join(NEEDED)}; missing: {', '.join(missing)}")
    table = predictions if "form" in predictions.columns else predictions.assign(form=predictions["category"])
    table = table.assign(correct=table["correct"].astype(bool))
    grouped = table.groupby(["scene", "question_id"], sort=False, observed=True)
    out = grouped.agg(
        category=("category", "first"),
        categories=("category", "nunique"),
        form=("form", "first"),
        options=("correct", "size"),
        correct=("correct", "all"),
    ).reset_index()
    single = out["category"].isin([category.name for category in categories if not category.choices])
    mixed = out.index[(out["categories"] > 1) | (single & (out["options"] > 1))]
    if len(mixed):
        row = out.loc[mixed[0]]
        raise DataError(f"question {row['question_id']} of scene {row['scene']} is listed twice, or under two categories")
    return out.drop(columns="categories")


def metrics_of(predictions: pd.DataFrame, categories: Categories = CLEVRER_CATEGORIES) -> dict[str, Any]:
    """All accuracies of `predictions` (columns as above). Raises DataError if a column is missing or a question is duplicated.

    {"per_question": {category: %}, "per_option": {category: %}, "multiple_choice": % per question over all categories with
    choices (if there are several), "average": % of all questions, "questions": {category: count}, "options": {category: count},
    "forms": {form: {"per_question", "per_option", "questions"}}}. A category or pool without questions has the accuracy None.
    """
    questions = questions_of(predictions, categories)
    correct = predictions["correct"].astype(bool)
    per_question, per_option, counts, options = {}, {}, {}, {}
    for category in categories.names:
        of_category = questions["category"] == category
        rows = predictions["category"] == category
        per_question[category] = _percent(questions["correct"][of_category])
        per_option[category] = _percent(correct[rows])
        counts[category] = int(of_category.sum())
        options[category] = int(rows.sum())
    pooled = {metric: questions["category"].isin(categories.members(metric)) for metric in categories.pooled}
    return {
        "per_question": per_question,
        "per_option": per_option,
        **{metric: _percent(questions["correct"][counted]) for metric, counted in pooled.items()},
        "questions": counts,
        "options": options,
        "forms": _forms(predictions, questions, correct),
    }


def _forms(predictions: pd.DataFrame, questions: pd.DataFrame, correct: pd.Series) -> dict[str, dict[str, Any]]:
    if "form" not in predictions.columns:
        return {}
    by_option = correct.groupby(predictions["form"], observed=True).mean() * 100
    by_question = questions.groupby("form", observed=True)["correct"].agg(["mean", "size"])
    return {
        str(form): {
            "per_question": float(by_question["mean"][form] * 100),
            "per_option": float(by_option[form]),
            "questions": int(by_question["size"][form]),
        }
        for form in sorted(by_question.index)
    }


def _percent(correct: pd.Series) -> float | None:
    return float(correct.sum() / len(correct) * 100) if len(correct) else None
