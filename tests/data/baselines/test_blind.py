"""Blind levels compared with a manual count."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ctt.core.errors import DataError
from ctt.data.baselines.blind import blind_levels
from ctt.data.data_format import CLEVRER

FORMS = [
    "descriptive:count",
    "descriptive:exist",
    "explanatory:is",
    "explanatory:not",
    "predictive",
    "counterfactual:not",
]
CATEGORY = [0, 0, 1, 1, 2, 3]


def table(questions, forms=FORMS):
    """questions: list of (form, [answers]) → the columns of a question table; `forms` decides the form's number."""
    rows = [(q, c, f, a) for q, (f, answers) in enumerate(questions) for c, a in enumerate(answers)]
    question, choice, form, answer = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    number = np.array([forms.index(name) for name in FORMS])
    category = np.array(CATEGORY)[form]
    return SimpleNamespace(
        scene=question * 0,
        question_id=question,
        choice_id=np.where(category == 0, -1, choice),
        category=category,
        category_names=np.array(CLEVRER.categories.names)[category],
        format=CLEVRER,
        form=number[form],
        forms=list(forms),
        answer=answer,
    )


def answers(form):
    one = st.lists(st.integers(1, 4), min_size=1, max_size=1)
    return st.tuples(st.just(form), one if CATEGORY[form] == 0 else st.lists(st.integers(0, 1), min_size=1, max_size=4))


questions = st.lists(st.integers(0, 5).flatmap(answers), min_size=1, max_size=30)
one_of_each = [(form, [1]) for form in range(6)]


@given(questions, questions)
@hypothesis_settings(max_examples=50, deadline=None)
def test_blind_levels_equal_a_manual_count(train, validation) -> None:
    train = train + one_of_each
    levels = blind_levels(table(train), table(validation, forms=FORMS[::-1]))
    most = {}
    for form in range(6):
        count = Counter(a for f, given_answers in train if f == form for a in given_answers)
        most[form] = min(a for a in count if count[a] == max(count.values()))
    for category, name in enumerate(["descriptive", "explanatory", "predictive", "counterfactual"]):
        mine = [(f, a) for f, a in validation if CATEGORY[f] == category]
        options = [x == most[f] for f, a in mine for x in a]
        questions = [all(x == most[f] for x in a) for f, a in mine]
        assert levels["per_option"][name] == (pytest.approx(100 * np.mean(options)) if options else None)
        assert levels["per_question"][name] == (pytest.approx(100 * np.mean(questions)) if questions else None)


def test_a_form_without_training_questions_gets_its_category_s_majority() -> None:
    train = [(2, [0, 0, 0]), (2, [1]), (0, [3])]
    levels = blind_levels(table(train), table([(3, [0, 1])]))
    assert levels["per_option"]["explanatory"] == 50 and levels["forms"]["explanatory:not"]["per_question"] == 0


def test_unknown_answers_and_missing_categories_are_refused() -> None:
    with pytest.raises(DataError, match="need answers"):
        blind_levels(table(one_of_each), table([(0, [-1])]))
    with pytest.raises(DataError, match="no predictive question"):
        blind_levels(table([(0, [1])]), table([(4, [1, 0])]))
