"""JSON: the whole table for programs. Floats are rounded, so that equal tables give equal bytes."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import asdict
from typing import Any

from ctt.report import statistics
from ctt.report.tables.row import Row
from ctt.report.tables.table import Table
from ctt.stages.columns import AuxiliaryColumns

PERCENT_DIGITS = 6
ERROR_DIGITS = 10
READER = "reader"  # the position reader has fields of its own, other auxiliary stages are in "auxiliary"


def record(table: Table, *, cost: bool = False) -> dict[str, Any]:
    """The table as JSON-ready values. Measured rows, reference levels, quoted rows and noise are separate lists;
    unknown numbers are None."""
    return {
        "sweep": table.sweep,
        "rows": [_row(row, table, cost) for row in table.rows],
        "levels": [
            {
                "point": level.label,
                level.kind: {n: rounded(estimate.mean, PERCENT_DIGITS) for n, estimate in level.estimates.items()},
            }
            for level in table.reference_levels
        ],
        "blind": [
            {"point": level.label, "metrics": rounded(level.means, PERCENT_DIGITS), "forms": rounded(level.forms, PERCENT_DIGITS)}
            for level in table.blind
        ],
        "quoted": [
            {
                "name": quote.name,
                "point": quote.label,
                "source": quote.source,
                "metrics": {m: {"mean": v, "delta": quote.deltas.get(m)} for m, v in quote.metrics.items()},
                "errors": dict(quote.errors),
            }
            for quote in table.quoted
        ],
        "reader": {
            "levels": {
                level.label: {n: rounded(estimate.mean, PERCENT_DIGITS) for n, estimate in level.estimates.items()}
                for level in table.reference_levels
                if level.kind == READER
            },
            "unread": [dict(one) for one in table.unread.get(READER, ())],
        },
        "noise": [rounded(asdict(row), PERCENT_DIGITS) for row in table.noise],
        "warnings": list(table.warnings),
        "reach": list(table.reach),
        "protocol": table.protocol,
    }


def as_json(table: Table, *, cost: bool = False) -> str:
    """The record as indented JSON, ending in a newline."""
    return json.dumps(record(table, cost=cost), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _row(row: Row, table: Table, cost: bool) -> dict[str, Any]:
    reader = row.auxiliary.get(READER, {})
    out: dict[str, Any] = {
        "point": row.label,
        "values": dict(row.values),
        "seeds": list(row.seeds),
        "baseline": row.baseline,
        "metrics": {m: rounded(estimate.numbers(), PERCENT_DIGITS) for m, estimate in row.estimates.items()},
        "errors": {name: rounded(estimate.mean, ERROR_DIGITS) for name, estimate in row.errors.items()},
        "reader": nested({name: rounded(estimate.mean, PERCENT_DIGITS) for name, estimate in reader.items()}),
        "paired": row.paired,
        "missing": list(row.missing),
        "sentence": row.sentence,
        "devices": {label: list(devices) for label, devices in row.devices.items()},
        "marks": list(row.marks),
        "warnings": list(row.warnings),
        "sign_flip_floor": statistics.sign_flip_floor(row.paired) if row.paired >= statistics.LEAST_SEEDS else None,
        "options": {m: rounded(estimate.numbers(), PERCENT_DIGITS) for m, estimate in row.options.items()},
        "forms": {m: rounded(estimate.numbers(), PERCENT_DIGITS) for m, estimate in row.forms.items()},
        "error_intervals": {name: rounded(estimate.numbers(), ERROR_DIGITS) for name, estimate in row.errors.items()},
        "reader_intervals": {name: rounded(estimate.numbers(), PERCENT_DIGITS) for name, estimate in reader.items()},
    }
    if added := [stage for stage in table.auxiliary if stage.columns and stage.kind != READER]:
        out["auxiliary"] = {stage.kind: _columns(row, stage) for stage in added}
    if cost:
        out["cost"] = rounded(row.cost, PERCENT_DIGITS)
    return out


def _columns(row: Row, stage: AuxiliaryColumns) -> dict[str, Any]:
    """The columns of an auxiliary stage with their intervals, differences, units and directions."""
    estimates = row.auxiliary.get(stage.kind, {})
    return {
        column.name: {**rounded(estimates[column.name].numbers(), ERROR_DIGITS), "unit": column.unit, "better": column.better}
        for column in stage.columns
        if column.name in estimates
    }


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """{"a/b": 1} as {"a": {"b": 1}}."""
    out: dict[str, Any] = {}
    for path, value in flat.items():
        *groups, name = path.split("/")
        functools.reduce(lambda node, group: node.setdefault(group, {}), groups, out)[name] = value
    return out


def rounded(value: Any, digits: int) -> Any:
    """Rounds the floats in nested values; −0.0 becomes 0.0, and NaN and infinities None."""
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, float):
        return round(value, digits) + 0.0 if math.isfinite(value) else None
    return value
