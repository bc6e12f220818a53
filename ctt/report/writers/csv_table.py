"""CSV: one line for each point and metric, for programs."""

from __future__ import annotations

import csv
import io

from ctt.report.tables import row_text
from ctt.report.tables.device_text import devices
from ctt.report.tables.estimates import MetricEstimate
from ctt.report.tables.row import Row
from ctt.report.tables.table import Table
from ctt.report.writers.json_table import ERROR_DIGITS, PERCENT_DIGITS, READER, rounded

_CSV_FIELDS = (
    "mean", "low", "high", "delta", "delta_low", "delta_high", "p", "p_holm", "sign_flip", "smallest",
    "smallest_low", "smallest_high", "reached", "above_blind",
)  # fmt: skip


def as_csv(table: Table, *, cost: bool = False) -> str:
    """One line for each point and metric; `kind` is metric, option, form, error, level, blind, quoted, or that of an
    auxiliary stage (reader …).

    Every swept setting is a column.
    """
    swept = sorted({name for row in table.rows for name in row.values})
    costs = sorted({name for row in table.rows for name in row.cost}) if cost else []
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    of_rows = ("point", "baseline", "seeds", "paired", "missing", "marks", "remarks", "devices")
    writer.writerow([*of_rows, *swept, *costs, "kind", "metric", *_CSV_FIELDS])
    for row in table.rows:
        start = [row.label, row.baseline, len(row.seeds), row.paired, len(row.missing), ", ".join(row.marks), _remarks(row)]
        start.append(devices(row.devices))
        start += [row.values.get(name, "") for name in swept]
        start += [rounded(row.cost.get(name, ""), PERCENT_DIGITS) for name in costs]
        for kind, estimates, digits in _kinds(row, table):
            for metric, estimate in estimates.items():
                numbers = [rounded(getattr(estimate, field), digits) for field in _CSV_FIELDS]
                writer.writerow([*start, kind, metric, *("" if n is None else n for n in numbers)])
    for level in table.reference_levels:
        start = [level.label, False, 0, 0, 0, "", "", "", *[""] * (len(swept) + len(costs))]
        for metric, estimate in level.estimates.items():
            line = dict.fromkeys(_CSV_FIELDS, "") | {"mean": rounded(estimate.mean, PERCENT_DIGITS)}
            writer.writerow([*start, "level", metric, *line.values()])
    for blind in table.blind:
        start = [blind.label, False, 0, 0, 0, "", "", "", *[""] * (len(swept) + len(costs))]
        for metric, mean in (*blind.means.items(), *blind.forms.items()):
            line = dict.fromkeys(_CSV_FIELDS, "") | {"mean": "" if mean is None else rounded(mean, PERCENT_DIGITS)}
            writer.writerow([*start, "blind", metric, *line.values()])
    for quote in table.quoted:
        start = [quote.label, False, 1, 0, 0, "", "", "", *[""] * (len(swept) + len(costs))]
        for name, error in quote.errors.items():
            writer.writerow([*start, "quoted", name, *(dict.fromkeys(_CSV_FIELDS, "") | {"mean": error}).values()])
        for metric, value in quote.metrics.items():
            line = dict.fromkeys(_CSV_FIELDS, "") | {"mean": value, "delta": quote.deltas.get(metric, "")}
            writer.writerow([*start, "quoted", metric, *line.values()])
    return out.getvalue()


def _remarks(row: Row) -> str:
    return "; ".join(row_text.MARKS[mark] for mark in row.marks if mark in row_text.MARKS)


def _kinds(row: Row, table: Table) -> list[tuple[str, dict[str, MetricEstimate], int]]:
    own = [
        ("metric", row.estimates, PERCENT_DIGITS),
        ("option", row.options, PERCENT_DIGITS),
        ("form", row.forms, PERCENT_DIGITS),
        ("error", row.errors, ERROR_DIGITS),
    ]
    for stage in table.auxiliary:
        own.append((stage.kind, row.auxiliary.get(stage.kind, {}), PERCENT_DIGITS if stage.kind == READER else ERROR_DIGITS))
    return own
