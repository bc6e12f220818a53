"""Levels without the video: their rows, and the cells that cannot be told from them, against a test made here."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ctt.data.categories import CLEVRER_CATEGORIES
from ctt.report.tables.row_text import BLIND, BLIND_NOTE
from ctt.report.tables.table import Table, build
from ctt.report.writers import FORMATS, render
from ctt.report.writers.notebook_display import shown
from tests.report import made_up_answers

ROWS = made_up_answers.questions(80)
LABEL = "most frequent answer of the form"


def blind(right: float = 0.55) -> pd.DataFrame:
    return ROWS.assign(correct=np.random.default_rng(9).random(len(ROWS)) < right)


def table(seeds: int = 4, **levels: pd.DataFrame) -> Table:
    results = made_up_answers.results(videos=80, seeds=seeds)
    return build(replace(results, blind=levels or {LABEL: blind()}))


def test_a_row_has_the_plain_accuracies_of_the_answers() -> None:
    (level,) = table().blind
    answers = blind()
    right = answers.groupby(["scene", "question_id"]).agg(category=("category", "first"), right=("correct", "all"))
    for category in CLEVRER_CATEGORIES.names:
        assert level.means[category] == pytest.approx(100 * right[right.category == category].right.mean())
    assert level.means["average"] == pytest.approx(100 * right.right.mean())


def test_cells_at_the_level_are_marked_and_those_far_above_are_not() -> None:
    """Baseline and points alike; the means of the videos' differences, by a t test over seeds where videos matter little."""
    found = table()
    results = made_up_answers.results(videos=80, seeds=4)
    level = blind()
    for place, row in enumerate(found.rows):
        for category in CLEVRER_CATEGORIES.names:
            runs = [run.predictions for run in results.runs if results.points[run.point].label == row.label]
            chosen = level.category == category
            gaps = [_right(frame[chosen]) - _right(level[chosen]) for frame in runs]
            means = [gap.mean() for gap in gaps]
            by_question = np.mean(gaps, axis=0)
            worst = max(np.std(means, ddof=1) / 2, by_question.std() / np.sqrt(len(by_question)))
            far = np.mean(means) / worst
            if far < 1:
                assert row.estimates[category].above_blind is False, (place, category, far)
            if far > 8:
                assert row.estimates[category].above_blind is True, (place, category, far)
    marks = {row.estimates[c].above_blind for row in found.rows for c in CLEVRER_CATEGORIES.names}
    assert marks == {True, False}, "the made-up answers show both"
    assert found.rows[0].estimates["counterfactual"].above_blind is not None


def _right(frame: pd.DataFrame) -> np.ndarray:
    return frame.groupby(["scene", "question_id"]).correct.all().to_numpy(float)


def test_the_highest_level_counts() -> None:
    perfect = ROWS.assign(correct=True)
    assert all(
        estimate.above_blind is False for row in table(words=blind(), all=perfect).rows for estimate in row.estimates.values()
    )
    nothing = ROWS.assign(correct=False)
    assert table(nothing=nothing).rows[0].estimates["descriptive"].above_blind is True


def test_one_run_is_tested_over_videos() -> None:
    found = table(seeds=1, nothing=ROWS.assign(correct=False)).rows[0]
    assert found.estimates["descriptive"].above_blind is True
    assert table(seeds=1).rows[0].estimates["counterfactual"].above_blind is False
    assert stats.t.ppf(0.975, 79) > 1.9


def test_other_questions_and_no_level_say_nothing() -> None:
    assert all(e.above_blind is None for e in build(made_up_answers.results(seeds=3)).rows[0].estimates.values())
    part = blind()[lambda frame: frame.category != "predictive"].reset_index(drop=True)
    found = table(part=part)
    assert found.blind[0].means["predictive"] is None and found.blind[0].means["average"] is not None


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_has_the_rows_and_the_marks(format: str) -> None:
    found = table()
    text = render(found, format, by_form=True)
    marked = [row.estimates[m] for row in found.rows for m in CLEVRER_CATEGORIES.metrics if row.estimates[m].above_blind is False]
    if format == "json":
        record = json.loads(text)
        assert record["blind"][0]["point"] == LABEL and set(record["blind"][0]["metrics"]) == set(CLEVRER_CATEGORIES.metrics)
        assert sum(row["metrics"][m]["above_blind"] is False for row in record["rows"] for m in CLEVRER_CATEGORIES.metrics) == len(
            marked
        )
    elif format == "csv":
        lines = list(csv.DictReader(io.StringIO(text)))
        assert {line["metric"] for line in lines if line["kind"] == "blind"} >= set(CLEVRER_CATEGORIES.metrics)
        assert sum(line["kind"] == "metric" and line["above_blind"] == "False" for line in lines) == len(marked)
    else:
        sign = "$^{\\circ}$" if format == "tex" else BLIND
        accuracies = text.split("Difference to the baseline")[0]
        if format == "tex":
            accuracies = "".join(line for line in accuracies.splitlines() if line.endswith("\\\\"))
        assert accuracies.count(sign) == len(marked) > 0
        flat = " ".join(text.split())
        assert "most frequent" in flat and BLIND_NOTE.split(" ", 1)[1].replace("%", "\\%" if format == "tex" else "%") in flat
    assert BLIND in shown(found)._repr_html_()
