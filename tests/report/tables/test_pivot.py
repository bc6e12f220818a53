"""Pivots over two swept settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ctt.core.errors import UsageError
from ctt.report.results import PointResults
from ctt.report.tables.pivot import pivot, pivot_grid, pivot_page, swept_settings
from ctt.report.tables.table import build
from ctt.report.writers import draw
from tests.report import made_up_answers


def test_rows_are_at_their_values() -> None:
    table = build(made_up_answers.results())
    grid = pivot(table, "ctt_inv_weight", "ctt_suf_weight", "counterfactual")
    assert grid.xs == grid.ys == (0.0, 0.05, 0.2)
    for j, suf in enumerate(grid.ys):
        for i, inv in enumerate(grid.xs):
            assert grid.rows[j][i].values == {"ctt_inv_weight": inv, "ctt_suf_weight": suf}
    lines = pivot_grid(grid).blocks[0]
    assert lines[0][0] == "ctt_suf_weight=0.0" and lines[0][1].startswith("baseline ")
    form = pivot(table, "ctt_inv_weight", "ctt_suf_weight", "counterfactual/not")
    assert form.estimate(1, 2) == grid.rows[1][2].forms["counterfactual/not"]


def test_settings_may_be_named_as_in_labels() -> None:
    table = build(made_up_answers.results())
    full = pivot(table, "ctt_inv_weight", "ctt_suf_weight", "average")
    assert pivot(table, "inv_weight", "suf_weight", "average") == full
    with pytest.raises(UsageError, match="weight is ambiguous in weights: ctt_inv_weight, ctt_suf_weight"):
        pivot(table, "weight", "suf_weight", "average")
    fixed = pivot_page(table, "inv_weight", "suf_weight", "average", {"suf_weight": 0.05})
    assert [line[0] for line in fixed.grids[0].blocks[0]] == ["ctt_suf_weight=0.0", "ctt_suf_weight=0.05"]


def test_a_third_setting_must_be_fixed() -> None:
    results = made_up_answers.results(seeds=1)
    points = [*results.points, PointResults("more", {**results.points[4].values, "start": 10})]
    points = [replace(p, values={"start": 5, **p.values}) for p in points]
    runs = [*results.runs, replace(results.runs[4], point=9)]
    table = build(replace(results, points=points, runs=runs))
    assert swept_settings(table) == ["start", "ctt_inv_weight", "ctt_suf_weight"]
    with pytest.raises(UsageError, match="both have ctt_inv_weight=0.05, ctt_suf_weight=0.05; fix start too"):
        pivot(table, "ctt_inv_weight", "ctt_suf_weight", "average")
    grid = pivot(table, "ctt_inv_weight", "ctt_suf_weight", "average", at={"start": 10})
    assert grid.xs == (0.0, 0.05) and grid.rows[1][1].label == "more" and grid.rows[0][0].baseline
    assert grid.rows[0][1] is None


@pytest.mark.parametrize("format", ["terminal", "md", "tex", "html"])
def test_a_pivot_is_drawn_in_every_format(format: str) -> None:
    table = build(made_up_answers.results())
    text = draw(pivot_page(table, "ctt_inv_weight", "ctt_suf_weight", "counterfactual"), format)
    row = next(row for row in table.rows if row.values == {"ctt_inv_weight": 0.2, "ctt_suf_weight": 0.05})
    assert f"{abs(row.estimates['counterfactual'].delta):.1f}" in text
    assert f"{row.estimates['counterfactual'].mean:.1f}" in text


@pytest.mark.parametrize(
    ("x", "y", "metric", "message"),
    [
        ("depth", "ctt_suf_weight", "average", "depth was not swept in weights; swept: ctt_inv_weight, ctt_suf_weight"),
        ("ctt_inv_weight", "ctt_inv_weight", "average", "two settings"),
        ("ctt_inv_weight", "ctt_suf_weight", "physics", "no metric is called 'physics'"),
    ],
)
def test_mistakes_are_named(x: str, y: str, metric: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pivot(build(made_up_answers.results(seeds=1)), x, y, metric)
