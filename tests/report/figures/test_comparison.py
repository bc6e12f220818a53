"""Figures of tables and curves: they show the numbers, also of incomplete sweeps, and give the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from ctt.report.figures import comparison
from ctt.report.figures.accuracies import accuracies_picture
from ctt.report.figures.rollout_errors import rollout_errors
from ctt.report.tables.row_text import metric_name
from ctt.report.tables.table import Table, build
from tests.report import made_up_answers


@pytest.fixture(scope="module")
def table() -> Table:
    return build(made_up_answers.results(videos=30))


def test_table_picture_draws_differences_and_intervals(table: Table) -> None:
    figure = comparison.table_picture(table)
    assert len(figure.axes) == 5
    axis = figure.axes[3]
    assert axis.get_title().startswith("counterfactual")
    rows = [row for row in table.rows if not row.baseline]
    dots = [line for line in axis.lines if line.get_marker() == "o" and line.get_markersize() > 3]
    assert [line.get_xdata()[0] for line in dots] == [row.estimates["counterfactual"].delta for row in rows]
    spans = [list(line.get_xdata()) for line in axis.lines if len(line.get_xdata()) == 2 and line.get_linewidth() > 1.5]
    assert spans == [[r.estimates["counterfactual"].delta_low, r.estimates["counterfactual"].delta_high] for r in rows]


def small(axis: Axes) -> list[tuple[float, float]]:
    """The places of the dots of seeds."""
    lines = [line for line in axis.lines if line.get_marker() == "o" and line.get_markersize() < 3]
    return [(float(x), float(y)) for line in lines for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def test_every_mean_has_its_seeds_as_dots(table: Table) -> None:
    rows = [row for row in table.rows if not row.baseline]
    figure = comparison.table_picture(table)
    drawn = [x for x, _ in small(figure.axes[3])]
    assert drawn == [delta for row in rows for delta in row.deltas("counterfactual", table.baseline)]
    for row in rows:
        assert np.mean(row.deltas("counterfactual", table.baseline)) == pytest.approx(row.estimates["counterfactual"].delta)
    figure = comparison.accuracy_against(table, "ctt_inv_weight", metrics=["counterfactual"])
    assert len(small(figure.axes[0])) == sum(len(row.seeds) for row in table.rows)


def test_points_by_categories_are_drawn_for_any_sweep(table: Table) -> None:
    figure = accuracies_picture(table)
    assert [axis.get_title() for axis in figure.axes] == [metric_name(metric) for metric in table.shown]
    for axis, metric in zip(figure.axes, table.shown, strict=True):
        means = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "o" and line.get_markersize() > 3]
        assert means == [row.estimates[metric].mean for row in table.rows]
        assert [x for x, _ in small(axis)] == [value for row in table.rows for value in row.by_seed[metric].values()]
        for row in table.rows:
            assert np.mean(list(row.by_seed[metric].values())) == pytest.approx(row.estimates[metric].mean)


def test_heat_map_writes_the_numbers(table: Table) -> None:
    figure = comparison.heat_map(table, "ctt_inv_weight", "ctt_suf_weight", "counterfactual")
    texts = {text.get_text() for text in figure.axes[0].texts}
    for row in table.rows[1:]:
        assert any(text.strip("*").endswith(f"{abs(row.estimates['counterfactual'].delta):.1f}") for text in texts)
    assert "baseline" in texts


def test_accuracy_against_joins_the_baseline_to_its_line(table: Table) -> None:
    figure = comparison.accuracy_against(table, "ctt_inv_weight", metrics=["counterfactual"])
    lines = figure.axes[0].containers
    assert len(lines) == 3
    means = lines[0].lines[0].get_ydata()
    wanted = [row.estimates["counterfactual"].mean for row in table.rows if row.values["ctt_suf_weight"] == 0.0]
    assert list(means) == wanted and len(means) == 3


def test_learning_curves_draw_mean_and_range_of_unequal_runs() -> None:
    curves = [
        comparison.Curve("a", 0, {"validation_error": [(1, 4.0), (2, 2.0)]}),
        comparison.Curve("a", 1, {"validation_error": [(1, 2.0)], "train_loss": []}),
    ]
    figure = comparison.learning_curves(curves, references={"validation_error": ("copying", 3.0)})
    (axis,) = figure.axes
    assert list(axis.lines[0].get_xdata()) == [1, 2] and list(axis.lines[0].get_ydata()) == [3.0, 2.0]
    band = axis.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in np.round(band, 6)} >= {(1.0, 2.0), (1.0, 4.0), (2.0, 2.0)}
    assert [text.get_text() for text in axis.texts] == ["copying"]
    assert axis.get_xlabel() == "epoch" and axis.get_ylabel() == "mean squared error"
    answers = comparison.Curve("a", 0, {"predictive": [(1, 40.0)], "vqa_loss": [(1, 2.0)]})
    units = {axis.get_ylabel() for axis in comparison.learning_curves([answers], videos=(60, 200)).axes}
    assert units == {"% of questions, 60 of 200 videos", "cross-entropy"}


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_same_figure_same_bytes(table: Table, tmp_path: Path, suffix: str) -> None:
    for name in "ab":
        comparison.table_picture(table, tmp_path / (name + suffix))
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_incomplete_sweeps_are_drawn(tmp_path: Path) -> None:
    results = made_up_answers.results(videos=10, seeds=2)
    runs = [replace(r, predictions=None) if r.point == 4 else r for r in results.runs]
    points = [replace(p, unreached=("descriptive",)) for p in results.points]
    table = build(replace(results, points=points, runs=runs))
    empty = build(replace(results, runs=[]))
    for each in (table, empty):
        comparison.table_picture(each, tmp_path / "a.png")
        comparison.heat_map(each, "ctt_inv_weight", "ctt_suf_weight", "descriptive", tmp_path / "b.png")
        comparison.accuracy_against(each, "ctt_inv_weight", tmp_path / "c.png")
    comparison.learning_curves([], tmp_path / "d.png")


def test_rollout_errors_are_drawn_frame_by_frame_with_their_references(tmp_path: Path) -> None:
    curves = [
        comparison.Curve("a", 0, {"error": [(1, 1.0), (2, 4.0)]}),
        comparison.Curve("a", 1, {"error": [(1, 3.0), (2, 6.0)]}),
        comparison.Curve("b", 0, {"error": []}),
    ]
    figure = rollout_errors(curves, {"copying": [2.0, 8.0], "linear": [1.5, 9.0]}, tmp_path / "rollouts.png")
    (axis,) = figure.axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in axis.lines}
    assert drawn == {"copying": [2.0, 8.0], "linear": [1.5, 9.0], "a": [2.0, 5.0]}
    assert axis.get_yscale() == "log" and axis.get_xlabel() == "predicted frame"
    assert (tmp_path / "rollouts.png").stat().st_size > 5000
