"""Levels of answering without the video, where training asks: a category that it never asks about has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ctt.data.questions.question_table import QuestionTable

LevelsOf = Callable[[QuestionTable, QuestionTable], dict[str, Any]]
"""blind_levels or words_only_levels: (train, validation) to accuracies."""


def levels_where_asked(levels: LevelsOf, train: QuestionTable, validation: QuestionTable) -> dict[str, Any]:
    """`levels` of the categories that `train` asks about. The others have None, and so have the pools with one of them."""
    known = np.isin(validation.category, train.category)
    found = levels(train, validation.rows(known))
    if not known.all():
        pooled = ["average"] + ["multiple_choice"] * bool((validation.category[~known] > 0).any())
        found |= dict.fromkeys(pooled)
    return found
