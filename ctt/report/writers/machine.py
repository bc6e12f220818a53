"""JSON and CSV: the table for programs, floats rounded so that equal tables give equal bytes."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from typing import Any

import pandas as pd

from ctt.report import statistics
from ctt.report.tables.estimates import MetricEstimate
from ctt.report.tables.table import Row, Table

PERCENT_DIGITS = 6
ERROR_DIGITS = 10
_CSV_FIELDS = (
    "mean", "low", "high", "delta", "delta_low", "delta_high", "p", "p_holm", "sign_flip", "smallest", "reached",
)  # fmt: skip


def record(table: Table, *, cost: bool = False) -> dict[str, Any]:
    """The table as JSON-ready values: rows (measured), levels, quoted and noise apart; unknown numbers are None."""
    return {
        "sweep": table.sweep,
        "rows": [_row(row, cost) for row in table.rows],
        "levels": [
            {
                "point": level.label,
                "reader": {n: _rounded(estimate.mean, PERCENT_DIGITS) for n, estimate in level.estimates.items()},
            }
            for level in table.levels
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
        "noise": [_rounded(asdict(row), PERCENT_DIGITS) for row in table.noise],
        "warnings": list(table.warnings),
        "reach": list(table.reach),
    }


def as_json(table: Table, *, cost: bool = False) -> str:
    """The record as indented JSON, ending in a newline."""
    return json.dumps(record(table, cost=cost), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(table: Table, *, cost: bool = False) -> str:
    """One line per point and metric (`kind` metric, option, form, error, reader, level or quoted), every swept value a column."""
    swept = sorted({name for row in table.rows for name in row.values})
    paid = sorted({name for row in table.rows for name in row.cost}) if cost else []
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["point", "baseline", "seeds", "paired", "missing", "marks", *swept, *paid, "kind", "metric", *_CSV_FIELDS]
    )
    for row in table.rows:
        start = [row.label, row.baseline, len(row.seeds), row.paired, len(row.missing), ", ".join(row.marks)]
        start += [row.values.get(name, "") for name in swept]
        start += [_rounded(row.cost.get(name, ""), PERCENT_DIGITS) for name in paid]
        for kind, estimates, digits in _kinds(row):
            for metric, estimate in estimates.items():
                numbers = [_rounded(getattr(estimate, field), digits) for field in _CSV_FIELDS]
                writer.writerow([*start, kind, metric, *("" if n is None else n for n in numbers)])
    for level in table.levels:
        start = [level.label, False, 0, 0, 0, "", *[""] * (len(swept) + len(paid))]
        for metric, estimate in level.estimates.items():
            line = dict.fromkeys(_CSV_FIELDS, "") | {"mean": _rounded(estimate.mean, PERCENT_DIGITS)}
            writer.writerow([*start, "level", metric, *line.values()])
    for quote in table.quoted:
        start = [quote.label, False, 1, 0, 0, "", *[""] * (len(swept) + len(paid))]
        for metric, value in quote.metrics.items():
            line = dict.fromkeys(_CSV_FIELDS, "") | {"mean": value, "delta": quote.deltas.get(metric, "")}
            writer.writerow([*start, "quoted", metric, *line.values()])
    return out.getvalue()


def as_frame(table: Table, *, cost: bool = True) -> pd.DataFrame:
    """The CSV's lines as a frame, for notebooks."""
    return pd.read_csv(io.StringIO(as_csv(table, cost=cost)))


def _kinds(row: Row) -> list[tuple[str, dict[str, MetricEstimate], int]]:
    return [
        ("metric", row.estimates, PERCENT_DIGITS),
        ("option", row.options, PERCENT_DIGITS),
        ("form", row.forms, PERCENT_DIGITS),
        ("error", row.errors, ERROR_DIGITS),
        ("reader", row.reader, PERCENT_DIGITS),
    ]


def _row(row: Row, cost: bool) -> dict[str, Any]:
    out: dict[str, Any] = {
        "point": row.label,
        "values": dict(row.values),
        "seeds": list(row.seeds),
        "baseline": row.baseline,
        "metrics": {m: _rounded(asdict(estimate), PERCENT_DIGITS) for m, estimate in row.estimates.items()},
        "errors": {name: _rounded(estimate.mean, ERROR_DIGITS) for name, estimate in row.errors.items()},
        "reader": {name: _rounded(estimate.mean, PERCENT_DIGITS) for name, estimate in row.reader.items()},
        "paired": row.paired,
        "missing": list(row.missing),
        "sentence": row.sentence,
        "marks": list(row.marks),
        "warnings": list(row.warnings),
        "sign_flip_floor": statistics.sign_flip_floor(row.paired) if row.paired >= statistics.LEAST_SEEDS else None,
        "options": {m: _rounded(asdict(estimate), PERCENT_DIGITS) for m, estimate in row.options.items()},
        "forms": {m: _rounded(asdict(estimate), PERCENT_DIGITS) for m, estimate in row.forms.items()},
        "error_intervals": {name: _rounded(asdict(estimate), ERROR_DIGITS) for name, estimate in row.errors.items()},
        "reader_intervals": {name: _rounded(asdict(estimate), PERCENT_DIGITS) for name, estimate in row.reader.items()},
    }
    if cost:
        out["cost"] = _rounded(row.cost, PERCENT_DIGITS)
    return out


def _rounded(value: Any, digits: int) -> Any:
    """Rounds the floats in nested values; no −0.0, and None for what JSON cannot say."""
    if isinstance(value, dict):
        return {key: _rounded(item, digits) for key, item in value.items()}
    if isinstance(value, float):
        return round(value, digits) + 0.0 if math.isfinite(value) else None
    return value
