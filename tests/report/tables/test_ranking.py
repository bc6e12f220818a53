"""Rankings of the points two tables share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ctt.core.errors import UsageError
from ctt.report.figures import comparison
from ctt.report.tables.ranking import ranking
from ctt.report.tables.table import Table, build
from tests.report import made_up_answers


def table_of(deltas: dict[float, float | None], name: str = "one") -> Table:
    """A table whose points, known by their value of w, differ from the baseline by `deltas`."""
    row = build(made_up_answers.results(videos=5, seeds=1)).rows[1]
    estimate = row.estimates["average"]
    rows = [
        replace(row, label=f"{name} {w}", values={"w": w}, estimates={"average": replace(estimate, delta=delta)})
        for w, delta in deltas.items()
    ]
    return Table(name, tuple(rows))


def test_ranks_by_hand(tmp_path: Path) -> None:
    first = table_of({1: 0.0, 2: 1.0, 3: 2.0, 4: 3.0, 5: None})
    second = table_of({4: 9.0, 3: -4.0, 2: 0.5, 1: 0.0, 6: 1.0}, "two")
    found = ranking(first, second, "average", top=2)
    assert found.labels == ("one 1", "one 2", "one 3", "one 4")
    assert found.first == (0.0, 1.0, 2.0, 3.0) and found.second == (0.0, 0.5, -4.0, 9.0)
    # ranks 1 2 3 4 against 2 3 1 4: 1 − 6 · (1 + 1 + 4 + 0) / (4 · 15)
    assert found.spearman == pytest.approx(0.4)
    assert (found.top, found.kept) == (2, 1), "3 and 4 lead the first table, 4 and 2 the second"
    figure = comparison.ranking_picture(found, "screened", "retrained", tmp_path / "a.png")
    assert list(figure.axes[0].lines[-1].get_ydata()) == list(found.second)


def test_too_few_or_equal_points_have_no_correlation() -> None:
    two = ranking(table_of({1: 0.0, 2: 1.0}), table_of({1: 1.0, 2: 0.0}), "average")
    assert two.spearman is None and two.top == 2
    flat = ranking(table_of({1: 0.0, 2: 0.0, 3: 0.0}), table_of({1: 1.0, 2: 0.0, 3: 2.0}), "average")
    assert flat.spearman is None and flat.p is None


def test_tables_without_a_shared_point_are_an_error() -> None:
    with pytest.raises(UsageError, match="one and two share no point with a difference in average"):
        ranking(table_of({1: 0.0}), table_of({2: 0.0}, "two"), "average")
