"""Tidy: a comparison as a DataFrame, one line for each point, metric and category."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from ctt.report.tables.estimates import MetricEstimate
from ctt.report.tables.row import Row
from ctt.report.tables.table import Table

NUMBERS = ("mean", "low", "high", "delta", "delta_low", "delta_high", "p", "p_holm")
ALL = "all"
"""The category of errors, which are of whole videos and not of questions."""


def tidy(table: Table) -> pd.DataFrame:
    """Columns: point, every swept setting, seeds (their number), metric, category, mean, low, high, delta, delta_low,
    delta_high, p, p_holm.

    metric: `accuracy` (% of questions) and `accuracy_per_option` (% of options), whose category is one of the data's or
    `multiple_choice` or `average`; `accuracy_by_form`, by question form (`predictive/next`); `world_model_error` and
    `rollout_error` (mean squared, of visible slots; with `_all` of all slots; category `all`);
    for each auxiliary stage its name, the category being its column. low to high
    is the 95 % interval of the mean, delta_low to delta_high that of the difference to the baseline, p that of a paired t test,
    p_holm corrected for all points. What is not known is NaN.
    """
    settings = list(dict.fromkeys(name for row in table.rows for name in row.values))
    lines = [
        {"point": row.label}
        | {name: row.values.get(name) for name in settings}
        | {"seeds": len(row.seeds), "metric": metric, "category": category}
        | {name: getattr(estimate, name) for name in NUMBERS}
        for row in table.rows
        for metric, category, estimate in _numbers(row)
    ]
    columns = ["point", *settings, "seeds", "metric", "category", *NUMBERS]
    return pd.DataFrame(lines, columns=columns).astype(dict.fromkeys(NUMBERS, "float64"))


def _numbers(row: Row) -> Iterator[tuple[str, str, MetricEstimate]]:
    own = {"accuracy": row.estimates, "accuracy_per_option": row.options, "accuracy_by_form": row.forms}
    for metric, estimates in (own | row.auxiliary).items():
        for category, estimate in estimates.items():
            yield metric, category, estimate
    for name, estimate in row.errors.items():
        yield f"{name}_error", ALL, estimate
