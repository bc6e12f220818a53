"""Tallies: predictions reduced to right answers per question form and video.

A question of several choices is right if all its choices are. Frames with the same questions share one QuestionLayout,
found by comparing ids, so that a run costs two bincounts; 1,000 runs of the validation split fit in a few hundred MB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ctt.core.errors import DataError
from ctt.data.categories import CLEVRER_CATEGORIES, Categories
from ctt.report.results import COLUMNS


@dataclass(frozen=True, eq=False)
class QuestionLayout:
    """Which questions a run answered: F forms over V videos.

    forms: (category, form) names, F of them, in category order; videos: scene ids (V,), ascending;
    questions: number of questions (F,V); options: number of choices (F,V), a question without choices counting as one.
    """

    forms: tuple[tuple[str, str], ...]
    videos: np.ndarray
    questions: np.ndarray
    options: np.ndarray
    ids: np.ndarray
    form_of: np.ndarray
    categories: Categories = CLEVRER_CATEGORIES

    def members(self, metric: str) -> np.ndarray:
        """The forms (F,) bool that a metric pools: a category, multiple_choice, average, or one "category/form"."""
        categories = self.categories.members(metric)
        return np.array([c in categories or f"{c}/{form}" == metric for c, form in self.forms], dtype=bool)

    def membership(self, metrics: tuple[str, ...]) -> np.ndarray:
        """(len(metrics), F) float64 of 0 and 1; its product with a tally pools the forms of each metric."""
        return np.stack([self.members(metric) for metric in metrics]).astype(np.float64)

    @property
    def form_names(self) -> tuple[str, ...]:
        """ "category/form" of every form, without a category that the form already starts with."""
        return tuple(f"{category}/{form}" for category, form in self.forms)


@dataclass(frozen=True, eq=False)
class Tally:
    """One run's right answers over a layout: questions (F,V) and options (F,V), small unsigned integers."""

    layout: QuestionLayout
    right: np.ndarray
    right_options: np.ndarray

    def pooled(self) -> np.ndarray:
        """Right questions per metric and video (metrics, V), float64."""
        pooled: np.ndarray = self.layout.membership(self.layout.categories.metrics) @ self.right
        return pooled


@dataclass(frozen=True, eq=False)
class _Arrangement:
    """One order in which a file lists the rows of a layout: ids (3,R) as found; question and (form, video) of every row."""

    ids: np.ndarray
    layout: QuestionLayout
    question_of_row: np.ndarray
    column_of_row: np.ndarray
    column_of_question: np.ndarray


class Tallies:
    """Turns prediction frames into tallies and remembers their layouts."""

    def __init__(self, categories: Categories = CLEVRER_CATEGORIES) -> None:
        self.categories = categories
        self._arrangements: list[_Arrangement] = []

    def count(self, frame: pd.DataFrame, owner: str) -> Tally:
        """The tally of one run's predictions. Raises DataError naming `owner` for missing columns or repeated rows."""
        missing = [column for column in COLUMNS if column not in frame]
        if missing:
            raise DataError(f"predictions of {owner} lack the columns {', '.join(missing)}")
        ids = np.stack([frame[column].to_numpy(np.int64) for column in ("scene", "question_id", "choice_id")])
        for arrangement in self._arrangements:
            if arrangement.ids.shape == ids.shape and np.array_equal(arrangement.ids, ids):
                break
        else:
            arrangement = self._arrange(ids, frame, owner)
            self._arrangements.insert(0, arrangement)
        layout = arrangement.layout
        correct = frame["correct"].to_numpy(bool)
        size = layout.questions.size
        wrong = np.bincount(arrangement.question_of_row, ~correct, minlength=arrangement.column_of_question.size)
        right = np.bincount(arrangement.column_of_question[wrong == 0], minlength=size)
        options = np.bincount(arrangement.column_of_row[correct], minlength=size)
        small = np.min_scalar_type(int(layout.options.max(initial=0)))
        shape = layout.questions.shape
        return Tally(layout, right.reshape(shape).astype(small), options.reshape(shape).astype(small))

    def _arrange(self, ids: np.ndarray, frame: pd.DataFrame, owner: str) -> _Arrangement:
        """Sorts a frame's questions into forms and videos, and finds the known layout with the same questions."""
        order = np.lexsort(ids[::-1])
        ids_sorted = ids[:, order]
        if ids.shape[1] == 0:
            raise DataError(f"predictions of {owner} are empty")
        if (np.diff(ids_sorted, axis=1) == 0).all(axis=0).any():
            raise DataError(f"predictions of {owner} hold a row twice (same scene, question_id and choice_id)")
        first = np.r_[True, (np.diff(ids_sorted[:2], axis=1) != 0).any(axis=0)]
        question_of_row = np.empty(ids.shape[1], dtype=np.int64)
        question_of_row[order] = np.cumsum(first) - 1
        videos, video_of_question = np.unique(ids_sorted[0, first], return_inverse=True)

        pairs = frame[["category", "form"]].iloc[order[first]].astype(str)
        codes, names = pd.factorize(pd.MultiIndex.from_frame(pairs))
        unknown = sorted({category for category, _ in names} - set(self.categories.names))
        if unknown:
            raise DataError(f"predictions of {owner} name unknown categories: {', '.join(unknown)}")
        by_category = sorted(range(len(names)), key=lambda i: (self.categories.names.index(names[i][0]), names[i][1]))
        rank = np.empty(len(names), dtype=np.int64)
        rank[by_category] = np.arange(len(names))
        form_of_question = rank[codes]

        layout = self._known(ids_sorted, form_of_question)
        column_of_question = form_of_question * videos.size + video_of_question
        column_of_row = column_of_question[question_of_row]
        if layout is None:
            shape = (len(names), videos.size)
            size = shape[0] * shape[1]
            layout = QuestionLayout(
                forms=tuple((names[i][0], names[i][1].removeprefix(names[i][0] + ":")) for i in by_category),
                videos=videos,
                questions=np.bincount(column_of_question, minlength=size).reshape(shape),
                options=np.bincount(column_of_row, minlength=size).reshape(shape),
                ids=ids_sorted,
                form_of=form_of_question,
                categories=self.categories,
            )
        return _Arrangement(ids, layout, question_of_row, column_of_row, column_of_question)

    def _known(self, ids_sorted: np.ndarray, form_of_question: np.ndarray) -> QuestionLayout | None:
        for arrangement in self._arrangements:
            layout = arrangement.layout
            if np.array_equal(layout.ids, ids_sorted) and np.array_equal(layout.form_of, form_of_question):
                return layout
        return None
