"""`ctt promote`: retraining ALOE for the best points of a screened sweep, and how well screening ranked them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from ctt.config import Config
from ctt.core.errors import UsageError
from ctt.planning import Plan
from ctt.report.tables import row_text
from ctt.report.tables.ranking import ranking
from ctt.report.tables.table import Table as Comparison
from ctt.report.tables.table import build
from ctt.setting_names import identity, with_value
from ctt.store import Store
from ctt.study import loading, record


def screened(store: Store, name: str) -> tuple[Plan, Comparison]:
    """The plan and table of a screened sweep's newest record. Raises UsageError if it was not screened."""
    plan = record.load(record.newest(store, name))
    if not plan.categories:
        raise UsageError(f"{name} answers no questions, so there is no ALOE to retrain")
    if plan.sweep.baseline.config.aloe.protocol != "shared":
        raise UsageError(f"{name} was not screened; run it with aloe.protocol=shared, then promote its best points")
    return plan, build(loading.results(plan, store))


def best(plan: Plan, table: Comparison, top: int, metric: str) -> list[str]:
    """Labels of the `top` points with the highest screened `metric`. Raises UsageError if no point has a result."""
    values = {
        row.label: mean
        for row in table.rows
        if not row.baseline and row.estimates and (mean := row.estimates[metric].mean) is not None
    }
    if not values:
        raise UsageError(f"no point of {plan.sweep.name} has a result yet; run the sweep first")
    return sorted(values, key=lambda label: -values[label])[:top]


def write_sweep(store: Store, plan: Plan, labels: list[str]) -> str:
    """Writes the sweep file of the promoted points; returns its path. It states every setting, so no default matters."""
    chosen = [p for p in plan.sweep.points if p.label in labels]
    content = {
        "name": f"{plan.sweep.name}-promoted",
        "baseline": _stated(plan.sweep.baseline.config),
        "points": [_stated(point.config) for point in chosen],
        "seeds": list(plan.sweep.seeds),
    }
    path = store.sweeps_folder(plan.sweep.name) / "promoted.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return str(path)


def _stated(config: Config) -> dict[str, Any]:
    """Every setting of a run except its seed, with its own ALOE; paths and threads too, which are in no key."""

    def walk(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in values.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    own = {field.name for field in dataclasses.fields(config) if field.metadata.get("key", True)} - {"seed"}
    values = {name: value for name, value in dataclasses.asdict(config).items() if name in own}
    auxiliary = {"auxiliary": list(config.auxiliary)} if config.auxiliary else {}
    return {**dict(walk(values, "")), **auxiliary, "aloe.protocol": "train"}


def compare(store: Store, name: str, metric: str, console: Console) -> None:
    """Prints the promoted points' screened and retrained differences and ranks.

    Raises UsageError if no point has been retrained.
    """
    plan, before = screened(store, name)
    promoted = record.load(record.newest(store, f"{name}-promoted"))
    after = relabelled(plan, promoted, build(loading.results(promoted, store)))
    found = ranking(before, after, metric, top=len(after.rows) - 1)
    grid = Table(title=f"{metric}, difference to the baseline in points")
    for column in ("point", "screened", "rank", "retrained", "rank"):
        grid.add_column(column, justify="left" if column == "point" else "right")
    ranks = [_ranks(found.first), _ranks(found.second)]
    lines = zip(found.labels, found.first, ranks[0], found.second, ranks[1], strict=True)
    for label, first, before_rank, second, after_rank in sorted(lines, key=lambda line: line[2]):
        grid.add_row(label, row_text.signed(first, 2), str(before_rank), row_text.signed(second, 2), str(after_rank))
    console.print(grid)
    best_now = ranks[1].index(1)
    console.print(
        f"the best after retraining, {found.labels[best_now]}, was ranked {ranks[0][best_now]} of {len(found.labels)} by screening",
        soft_wrap=True,
        highlight=False,
    )
    if found.spearman is not None:
        console.print(f"rank correlation (Spearman) {found.spearman:+.2f}, p = {found.p:.3f}", highlight=False)
    else:
        console.print("no rank correlation: too few points, or all differences are equal")


def _ranks(values: Sequence[float]) -> list[int]:
    """1 for the largest; equal values rank in the order given."""
    order = sorted(range(len(values)), key=lambda place: -values[place])
    return [order.index(place) + 1 for place in range(len(values))]


def relabelled(plan: Plan, promoted: Plan, table: Comparison) -> Comparison:
    """`table` with the screened sweep's labels and values: among fewer points fewer settings vary and are in labels."""
    screened_points = {_retrained(point.config): point for point in plan.sweep.points}
    by_label = {point.label: screened_points[_retrained(point.config)] for point in promoted.sweep.points}
    rows = (dataclasses.replace(row, label=by_label[row.label].label, values=by_label[row.label].values) for row in table.rows)
    return dataclasses.replace(table, rows=tuple(rows))


def _retrained(config: Config) -> str:
    """A point's identity with its own ALOE, the same for a screened and a retrained point."""
    return identity(with_value(config, "aloe.protocol", "train"), but=("seed",))
