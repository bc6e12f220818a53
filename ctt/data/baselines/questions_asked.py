"""Levels of answering without the video, for the categories with training questions only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ctt.data.questions.question_table import QuestionTable

LevelsOf = Callable[[QuestionTable, QuestionTable], dict[str, Any]]
"""blind_levels or words_only_levels: maps (train, validation) to accuracies."""


def levels_where_asked(levels: LevelsOf, train: QuestionTable, validation: QuestionTable) -> dict[str, Any]:
    """`levels` of the categories present in `train`; None for the others and for the pools that include one of them."""
    known = np.isin(validation.category, train.category)
    found = levels(train, validation.rows(known))
    if not known.all():
        categories = validation.format.categories
        unknown = set(validation.category_names[~known])
        found |= dict.fromkeys(metric for metric in categories.pooled if unknown & set(categories.members(metric)))
    return found
