"""Pictures: what a report draws of a sweep, by the names of the files it goes to."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

from matplotlib.figure import Figure

from ctt.core.errors import UsageError
from ctt.core.settings import canonical_form
from ctt.plan import Plan
from ctt.report.figures import comparison, graph_figures, loss_parts
from ctt.report.figures.rollout_errors import rollout_errors
from ctt.report.tables.pivot import pivot, swept_settings
from ctt.report.tables.table import Table
from ctt.store import Store
from ctt.study import loading

MOST_AGAINST = 6
"""Settings drawn one by one; a sweep of more has its pictures drawn when asked for."""


def pictures(table: Table, plan: Plan, store: Store) -> dict[str, Callable[[], Figure]]:
    """{file name: what draws it}: the table, curves, rollout errors, each swept setting, each two that say which row is meant."""
    if not any(row.estimates for row in table.rows):
        return {}
    videos = canonical_form(plan.targets[0].aloe).get("eval_videos")
    drawn: dict[str, Callable[[], Figure]] = {
        "table.png": lambda: comparison.table_picture(table),
        "learning_curves.png": lambda: comparison.learning_curves(
            loading.curves(plan, store), levels=loading.levels(plan, store), videos=videos
        ),
    }
    if found := loading.diagnoses(plan, store):
        drawn["graphs.png"] = partial(graph_figures.diagnosis_picture, found)
        drawn["losses.png"] = partial(loss_parts.loss_picture, found)
    if loading.rollout_levels(plan, store):
        drawn["rollout_errors.png"] = lambda: rollout_errors(
            loading.rollout_curves(plan, store), loading.rollout_levels(plan, store)
        )
    swept = swept_settings(table)
    if len(swept) > MOST_AGAINST:
        return drawn
    if len(table.rows) > 2:  # of two points the table says it all
        drawn |= {f"against_{name}.png": partial(comparison.accuracy_against, table, name) for name in swept}
        for x, y in itertools.combinations(swept, 2):
            if _unambiguous(table, x, y):
                drawn[f"heat_map_{x}_{y}.png"] = partial(comparison.heat_maps, table, x, y)
    return drawn


def _unambiguous(table: Table, x: str, y: str) -> bool:
    try:
        field = pivot(table, x, y, "average")
    except UsageError:
        return False
    return len(field.xs) > 1 and len(field.ys) > 1
