"""Which tests are adjusted together, and what rows say of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ctt.data.categories import CLEVRER_CATEGORIES
from ctt.report.results import Results
from ctt.report.tables import layout
from ctt.report.tables.row import Row
from ctt.report.tables.table import build
from ctt.report.writers import FORMATS, render
from ctt.stages.auxiliary.reader import PositionReader
from tests.report import made_up_answers

READ = ("predictive", "counterfactual")


def by_hand(p: list[float]) -> list[float]:
    """Holm, one by one: the k-th smallest of m times m − k + 1, never below one before it."""
    order, adjusted, largest = sorted(range(len(p)), key=lambda i: p[i]), [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, p[i] * (len(p) - rank)))
        adjusted[i] = largest
    return adjusted


def screened(results: Results, which: range) -> Results:
    points = [replace(p, marks=("screened",) if i in which else ()) for i, p in enumerate(results.points)]
    return replace(results, points=points)


def test_screened_rows_are_a_family_apart() -> None:
    rows = build(screened(made_up_answers.results(seeds=4), range(5, 9))).rows[1:]
    for marked in (False, True):
        family = [row.estimates[c] for row in rows if bool(row.marks) is marked for c in CLEVRER_CATEGORIES.names]
        assert len(family) == 16
        assert [e.p_holm for e in family] == pytest.approx(by_hand([e.p for e in family]))


def test_screened_rows_share_no_variance_with_retrained_ones() -> None:
    results = made_up_answers.results(seeds=4)
    apart, alone = (
        build(screened(results, range(5, 9))),
        build(replace(results, points=results.points[:5], runs=[r for r in results.runs if r.point < 5])),
    )
    for row, other in zip(apart.rows[:5], alone.rows, strict=True):
        assert row.estimates["predictive"].smallest == other.estimates["predictive"].smallest


@pytest.mark.parametrize("format", FORMATS)
def test_the_table_says_that_a_shift_can_only_count_against_a_screened_row(format: str) -> None:
    text = " ".join(render(build(screened(made_up_answers.results(), range(8, 9))), format).split())
    assert "can only count against it" in text
    assert "(screened)" in text or format in ("csv", "json")


def with_reader(better: float) -> Results:
    """The position reader answers with another random number than ALOE, and `better` of its wrong answers right in one point."""
    results = made_up_answers.results(videos=120, seeds=5)

    def answers(frame: pd.DataFrame, point: int, seed: int) -> pd.DataFrame:
        rng = np.random.default_rng([point, seed])
        read = frame[frame.category.isin(READ)].reset_index(drop=True)
        right = rng.random(len(read)) < 0.5 + (better if point == 4 else 0.0)
        return read.assign(correct=right)

    runs = [replace(r, answered={"reader": answers(r.predictions, r.point, r.seed)}) for r in results.runs]  # type: ignore[arg-type]
    return replace(results, runs=runs, auxiliary=[PositionReader.described()])


def test_the_position_reader_is_a_family_of_its_own() -> None:
    rows = build(with_reader(0.0)).rows[1:]
    family = [row.auxiliary["reader"][name] for row in rows for name in READ]
    assert [e.p_holm for e in family] == pytest.approx(by_hand([e.p for e in family]))
    assert all(row.auxiliary["reader"]["counterfactual_per_option"].p_holm is None for row in rows)
    aloe = [row.estimates[c] for row in rows for c in CLEVRER_CATEGORIES.names]
    assert [e.p_holm for e in aloe] == pytest.approx(by_hand([e.p for e in aloe]))


def row_of(results: Results, point: int) -> Row:
    return next(row for row in build(results).rows if row.label == results.points[point].label)


def test_its_differences_are_in_the_sentence_the_tests_and_the_stars() -> None:
    results = with_reader(0.3)
    found, other = row_of(results, 4), row_of(results, 5)
    assert "position reader: predictive differs by +" in found.sentence and "(Holm p " in found.sentence
    assert "position reader: no evidence of a difference; min. detectable difference" in other.sentence
    grid = layout.tests(found, results.auxiliary)
    assert [line[0] for line in grid.blocks[2]] == ["position reader: predictive", "position reader: counterfactual"]
    table = build(results)
    starred = layout.auxiliary(table, table.auxiliary[0])
    marked = {line[0] for line in starred.blocks[0] if line[3].endswith("*")}
    assert marked == {found.label}


def with_errors(gap: float) -> Results:
    """Errors that vary by run, in one point larger by `gap` standard deviations; those of all slots follow them."""
    results, runs = made_up_answers.results(seeds=6), []
    for run in results.runs:
        varied = np.random.default_rng([run.point, run.seed]).normal(size=2) + (gap if run.point == 4 else 0.0)
        errors = {"world_model": 0.02 + 1e-4 * varied[0], "rollout": 0.03 + 1e-4 * varied[1]}
        runs.append(replace(run, errors=errors | {f"{name}_all": value / 2 for name, value in errors.items()}))
    return replace(results, runs=runs)


def test_errors_of_slots_in_view_are_a_family_that_no_mark_divides() -> None:
    rows = build(screened(with_errors(0.0), range(5, 9))).rows[1:]
    family = [row.errors[name] for row in rows for name in ("world_model", "rollout")]
    assert [e.p_holm for e in family] == pytest.approx(by_hand([e.p for e in family]))
    assert all(row.errors[f"{name}_all"].p_holm is None for row in rows for name in ("world_model", "rollout"))


def test_differences_of_errors_are_in_the_sentence_the_tests_and_the_stars() -> None:
    results = with_errors(20.0)
    found, other = row_of(results, 4), row_of(results, 5)
    assert "rollout error (visible slots) differs by +0.00" in found.sentence and "differs by" not in other.sentence
    lines = layout.tests(found).blocks[1]
    assert [line[0] for line in lines] == ["world model error (visible slots)", "rollout error (visible slots)"]
    assert lines[0][-1].startswith("0.00"), "the minimum detectable difference, in the error's own digits"
    starred = layout.errors(build(results))
    assert {line[0] for line in starred.blocks[0] if line[3].endswith("*")} == {found.label}
