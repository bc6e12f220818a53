"""Pages: the tables of a study that Jupyter displays, by name."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from ctt.core.errors import UsageError
from ctt.report.figures.spending import spending_grid
from ctt.report.published import QUOTED
from ctt.report.tables import layout
from ctt.report.tables.graph_tables import Diagnosis, density_grid, losses_grid, recovery_grid
from ctt.report.tables.grid import Grid, Page
from ctt.report.tables.pivot import pivot, pivot_grid, swept_settings
from ctt.report.tables.power import power_grid
from ctt.report.tables.table import Table
from ctt.report.writers.notebook_display import Shown, shown

Diagnoses = Mapping[str, Sequence[Diagnosis]]


def pages_of(table: Table) -> dict[str, Callable[[], Shown]]:
    """The pages of a comparison: as printed; with costs; question forms; what could be detected."""
    return {
        "ablation": lambda: _ablation(table),
        "comparison": lambda: shown(table),
        "comparison_with_costs": lambda: shown(table, cost=True),
        "forms": lambda: _page("question forms", [layout.forms(table, category) for category in table.categories.names]),
        "costs": lambda: shown(layout.costs(table)),
        "power": lambda: _power(table),
    }


def _ablation(table: Table) -> Shown:
    """Differences over the two swept settings with most values, a grid a metric; other settings are at the values that most
    points have. Of a sweep of fewer settings the comparison."""
    values = {name: {repr(row.values.get(name)) for row in table.rows} for name in swept_settings(table)}
    if len(values) < 2:
        return shown(table)
    x, y, *others = sorted(values, key=lambda name: -len(values[name]))
    fixed = Counter(tuple((name, row.values.get(name)) for name in others) for row in table.rows if not row.baseline)
    at = dict(fixed.most_common(1)[0][0])
    try:
        grids = [pivot_grid(pivot(table, x, y, metric, at)) for metric in table.shown]
    except UsageError:  # points that differ in what is no swept setting of all
        return shown(table)
    where = "".join(f", {name}={value}" for name, value in at.items())
    return shown(Page(f"{table.sweep}{where}", tuple(grids), tuple(f"warning: {warning}" for warning in table.warnings)))


def graph_pages(diagnoses: Diagnoses) -> dict[str, Callable[[], Shown]]:
    """The pages of the slot graphs that diagnostics measured, for each point; none where nothing was."""
    if not diagnoses:
        return {}
    return {
        "graph_density": lambda: _by_point("slot graphs", diagnoses, density_grid),
        "graph_recovery": lambda: _by_point("true interactions", diagnoses, recovery_grid),
        "loss_terms": lambda: shown(losses_grid(diagnoses)),
    }


def spending_page(numbers: Mapping[str, object]) -> Shown:
    """Device-hours, and what of them merging, sharing and screening save; numbers: those of `ctt plan --json`."""
    return shown(spending_grid(numbers))


def _by_point(title: str, diagnoses: Diagnoses, grid_of: Callable[[Sequence[Diagnosis]], Grid]) -> Shown:
    grids = {point: grid_of(measured) for point, measured in diagnoses.items()}
    return _page(title, [dataclasses.replace(grid, title=f"{point}: {grid.title}") for point, grid in grids.items()])


def _power(table: Table) -> Shown:
    noise = next(iter(table.noise), None)
    grids = [power_grid(row, QUOTED["reported_ctt"], noise, table.same_protocol) for row in table.rows if not row.baseline]
    return shown(Page("power", tuple(grid for grid in grids if any(grid.blocks)), (table.protocol,) if table.protocol else ()))


def _page(title: str, grids: Sequence[Grid]) -> Shown:
    return shown(Page(title, tuple(grid for grid in grids if any(grid.blocks))))
