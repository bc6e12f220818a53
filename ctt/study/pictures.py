"""Pictures: the figures of a sweep's report, by file name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from ctt.core.errors import UsageError
from ctt.planning import Plan
from ctt.report.figures import comparison, graph_figures, loss_parts
from ctt.report.figures.accuracies import accuracies_picture
from ctt.report.figures.rollout_errors import rollout_errors
from ctt.report.figures.spending import spending_picture
from ctt.report.tables.pivot import pivot, swept_settings
from ctt.report.tables.ranking import ranking
from ctt.report.tables.table import Table
from ctt.store import Store
from ctt.study import loading

MOST_AGAINST = 6
"""Most swept settings for which every setting and pair is drawn; otherwise `ctt report --picture` draws them."""


def pictures(table: Table, plan: Plan, store: Store) -> dict[str, Callable[[], Figure]]:
    """{file name: function that draws it}: the table, points × categories, curves, rollout errors, each swept setting, and each
    pair of settings with at most one row for two values."""
    if not table.shown:
        return {}
    drawn: dict[str, Callable[[], Figure]] = {
        "table.png": lambda: comparison.table_picture(table),
        "accuracies.png": lambda: accuracies_picture(table),
        "learning_curves.png": lambda: comparison.learning_curves(
            loading.curves(plan, store),
            references=loading.reference_lines(plan, store),
            videos=loading.curve_videos(plan, store),
            categories=table.categories,
        ),
    }
    if found := loading.diagnoses(plan, store):
        drawn["graphs.png"] = partial(graph_figures.diagnosis_picture, found)
        drawn["losses.png"] = partial(loss_parts.loss_picture, found)
    if loading.rollout_references(plan, store):
        drawn["rollout_errors.png"] = lambda: rollout_errors(
            loading.rollout_curves(plan, store), loading.rollout_references(plan, store)
        )
    swept = swept_settings(table)
    if len(swept) > MOST_AGAINST:
        return drawn
    if len(table.rows) > 2:  # the table is enough for two points
        drawn |= {f"against_{name}.png": partial(comparison.accuracy_against, table, name) for name in swept}
        for x, y in itertools.combinations(swept, 2):
            if _unambiguous(table, x, y):
                drawn[f"heat_map_{x}_{y}.png"] = partial(comparison.heat_maps, table, x, y)
    return drawn


def study_pictures(
    table: Table, plan: Plan, store: Store, spending: Mapping[str, Any], promoted: Table | None
) -> dict[str, Callable[[], Figure]]:
    """{name: function that draws it}: those of the report, and what only notebooks show.

    spending: the numbers of `ctt plan --json`; promoted: the table of the points that were retrained.
    """
    drawn = {name.removesuffix(".png"): draw for name, draw in pictures(table, plan, store).items()}
    drawn["spending"] = lambda: spending_picture(spending)
    if found := loading.diagnoses(plan, store):
        point = graph_figures.chosen_point(found)
        drawn["mean_graphs"] = lambda: graph_figures.mean_picture(found.get(point or "", []))
    if promoted is not None:
        drawn["ranking"] = lambda: comparison.ranking_picture(ranking(table, promoted, "average"), "screened", "retrained")
    return drawn


def _unambiguous(table: Table, x: str, y: str) -> bool:
    try:
        field = pivot(table, x, y, table.leading)
    except UsageError:
        return False
    return len(field.xs) > 1 and len(field.ys) > 1
