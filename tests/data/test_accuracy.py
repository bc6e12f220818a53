"""Accuracies against loops over the definitions, and errors of malformed tables."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ctt.core.errors import DataError
from ctt.data.accuracy import metrics_of

CATEGORIES = ["descriptive", "explanatory", "predictive", "counterfactual"]

question = st.tuples(st.sampled_from(CATEGORIES), st.lists(st.booleans(), min_size=1, max_size=4), st.integers(0, 2))
scenes = st.lists(st.lists(question, max_size=5), max_size=5)


def table_of(scenes) -> pd.DataFrame:
    """A predictions table with its rows in a fixed shuffled order, which must not matter."""
    rows = []
    for scene, questions in enumerate(scenes):
        for number, (category, options, form) in enumerate(questions):
            for choice, correct in enumerate(options[:1] if category == "descriptive" else options):
                rows.append((scene, number, choice, category, f"{category}:{form}", correct))
    rows = rows[::3] + rows[1::3] + rows[2::3]
    return pd.DataFrame(rows, columns=["scene", "question_id", "choice_id", "category", "form", "correct"])


@given(scenes)
@hypothesis_settings(max_examples=60, deadline=None)
def test_metrics_equal_those_counted_by_loops(scenes) -> None:
    metrics = metrics_of(table_of(scenes))
    questions = [
        (category, options[:1] if category == "descriptive" else options, f"{category}:{form}")
        for scene in scenes
        for category, options, form in scene
    ]

    def share(results: list[bool]):
        return pytest.approx(100 * sum(results) / len(results)) if results else None

    for category in CATEGORIES:
        mine = [options for name, options, _ in questions if name == category]
        assert metrics["per_question"][category] == share([all(options) for options in mine])
        assert metrics["per_option"][category] == share([option for options in mine for option in options])
        assert metrics["questions"][category] == len(mine)
        assert metrics["options"][category] == sum(map(len, mine))
    assert metrics["multiple_choice"] == share([all(o) for name, o, _ in questions if name != "descriptive"])
    assert metrics["average"] == share([all(o) for _, o, _ in questions])
    assert sorted(metrics["forms"]) == sorted({form for _, _, form in questions})
    for form, values in metrics["forms"].items():
        mine = [options for _, options, name in questions if name == form]
        assert values["per_question"] == share([all(options) for options in mine])
        assert values["per_option"] == share([option for options in mine for option in options])
        assert values["questions"] == len(mine)


def test_pools_are_weighted_by_questions() -> None:
    """Pools weight categories by their questions, not by their options and not equally."""
    counts = {"descriptive": 200, "explanatory": 30, "predictive": 10, "counterfactual": 40}
    right = {"descriptive": 180, "explanatory": 15, "predictive": 10, "counterfactual": 0}
    rows = [(0, 1000 * i + n, c, n < right[c]) for i, c in enumerate(counts) for n in range(counts[c])]
    metrics = metrics_of(pd.DataFrame(rows, columns=["scene", "question_id", "category", "correct"]))
    assert metrics["average"] == pytest.approx(100 * 205 / 280)
    assert metrics["multiple_choice"] == pytest.approx(100 * 25 / 80)
    assert metrics["forms"] == {}


def test_a_missing_column_and_a_question_listed_twice_are_refused() -> None:
    table = table_of([[("descriptive", [True], 0), ("predictive", [True, False], 0)]])
    with pytest.raises(DataError, match="missing: correct"):
        metrics_of(table.drop(columns="correct"))
    with pytest.raises(DataError, match="question 0 of scene 0 is listed twice"):
        metrics_of(pd.concat([table, table]))
