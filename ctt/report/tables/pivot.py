"""Pivot: a table's rows arranged over two swept settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctt.core.errors import UsageError
from ctt.report.tables import row_text
from ctt.report.tables.estimates import MetricEstimate
from ctt.report.tables.grid import Grid, Page
from ctt.report.tables.layout import estimate_text
from ctt.report.tables.row import Row
from ctt.report.tables.table import Table


@dataclass(frozen=True)
class Pivot:
    """Rows over settings `x` (columns) and `y` (lines); `rows[j][i]` is the row at ys[j], xs[i], or None."""

    x: str
    y: str
    metric: str
    xs: tuple[Any, ...]
    ys: tuple[Any, ...]
    rows: tuple[tuple[Row | None, ...], ...]

    def estimate(self, j: int, i: int) -> MetricEstimate | None:
        """The metric's estimate at ys[j], xs[i]."""
        row = self.rows[j][i]
        return None if row is None else row.estimate(self.metric)


def pivot(table: Table, x: str, y: str, metric: str, at: Mapping[str, Any] | None = None) -> Pivot:
    """Arranges the rows whose other settings are `at`. `metric`: a category, a pooled one, or "category/form".

    Settings may be named as in the labels of points (see `swept_setting`). Raises UsageError if a setting was not swept,
    the metric does not exist, or two rows have the same two values (then it names the settings that `at` should fix).
    The baseline is at its own values and never replaces another row.
    """
    swept = swept_settings(table)
    x, y = swept_setting(table, x), swept_setting(table, y)
    fixed = {swept_setting(table, name): value for name, value in (at or {}).items()}
    if x == y:
        raise UsageError(f"a pivot needs two settings, got {x} twice")
    known = (*table.categories.metrics, *(() if table.categories else table.rows[0].errors if table.rows else ()))
    if metric not in known and not any(metric in row.forms for row in table.rows):
        raise UsageError(f"no metric is called {metric!r}; known are {', '.join(known)} and the question forms")
    found: dict[tuple[Any, Any], Row] = {}
    for row in sorted(table.rows, key=lambda row: row.baseline):
        values = row.values
        if x not in values or y not in values:
            continue
        if not row.baseline and any(values.get(name, wanted) != wanted for name, wanted in fixed.items()):
            continue
        place = (_hashable(values[x]), _hashable(values[y]))
        other = found.setdefault(place, row)
        if other is not row and not row.baseline:
            names = [n for n in swept if n not in (x, y) and other.values.get(n) != row.values.get(n)]
            raise UsageError(f"{other.label} and {row.label} both have {x}={place[0]}, {y}={place[1]}; fix {', '.join(names)} too")
    xs = ordered({place[0] for place in found})
    ys = ordered({place[1] for place in found})
    return Pivot(x, y, metric, xs, ys, tuple(tuple(found.get((a, b)) for a in xs) for b in ys))


def swept_setting(table: Table, name: str) -> str:
    """The swept setting with this name, or with its last part, as labels shorten it ("inv_weight", "graph.source").

    Raises UsageError if there is none, or if several share the last part.
    """
    swept = swept_settings(table)
    found = [one for one in swept if one == name] or [one for one in swept if one.endswith((f"_{name}", f".{name}"))]
    if not found:
        raise UsageError(f"{name} was not swept in {table.sweep}; swept: {', '.join(swept) or 'nothing'}")
    if len(found) > 1:
        raise UsageError(f"{name} is ambiguous in {table.sweep}: {', '.join(found)}; write one of these")
    return found[0]


def swept_settings(table: Table) -> list[str]:
    """Names of settings that take more than one value over the rows, in the order the rows name them."""
    seen: dict[str, set[str]] = {}
    for row in table.rows:
        for name, value in row.values.items():
            seen.setdefault(name, set()).add(repr(value))
    return [name for name, values in seen.items() if len(values) > 1]


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def ordered(values: set[Any]) -> tuple[Any, ...]:
    """Numbers by size, then all other values by their text."""
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    return (*sorted(numbers), *sorted((v for v in values if v not in numbers), key=str))


def pivot_page(table: Table, x: str, y: str, metric: str, at: Mapping[str, Any] | None = None) -> Page:
    """Differences and accuracies of a metric over two swept settings, to be drawn like any page."""
    grid = pivot(table, x, y, metric, at)
    fixed = "".join(f", {name}={value}" for name, value in (at or {}).items())
    notes = [f"warning: {warning}" for warning in table.warnings]
    return Page(f"{table.sweep}{fixed}", (pivot_grid(grid), pivot_grid(grid, "mean")), tuple(notes))


def pivot_grid(pivot: Pivot, value: str = "delta") -> Grid:
    """The pivot as a grid of text. `value` is delta or mean."""
    lines = []
    for j, b in enumerate(pivot.ys):
        estimates = [pivot.estimate(j, i) for i in range(len(pivot.xs))]
        texts = []
        for i, estimate in enumerate(estimates):
            row = pivot.rows[j][i]
            if estimate is None or row is None:
                texts.append("")
            elif row.baseline and value == "delta":
                texts.append(f"baseline {row_text.number(estimate.mean)}")
            else:
                texts.append(estimate_text(estimate, value))
        lines.append((f"{pivot.y}={b}", *texts))
    unit = "difference to the baseline, points" if value == "delta" else "% of questions"
    title = f"{row_text.metric_name(pivot.metric)}: {unit}, ± 95 % interval"
    header = (f"{pivot.y} \\ {pivot.x}", *(str(a) for a in pivot.xs))
    return Grid(title, header, (tuple(lines),))
