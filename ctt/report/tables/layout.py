"""Layout: a table as a page of titled grids of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ctt.core.units import duration
from ctt.report import statistics
from ctt.report.tables import row_text
from ctt.report.tables.arrangement import best_cells
from ctt.report.tables.device_text import device_notes
from ctt.report.tables.estimates import MetricEstimate
from ctt.report.tables.grid import Grid, Page
from ctt.report.tables.row import Row
from ctt.report.tables.row_text import (
    DASH,
    DETECTABLE,
    ERROR_DIGITS,
    ERROR_NAMES,
    GAP_DIGITS,
    STAGE_NAMES,
    metric_name,
    number,
    p_value,
    signed,
)
from ctt.report.tables.table import Table
from ctt.stages.columns import AuxiliaryColumns, Column

STAR = "*"
ALL = "_all"  # ends the names of errors of all slots
MOST_TESTED = {False: 12, True: 3}
"""The most points whose tests are listed, by `narrow`; of more points only CSV and JSON list them."""


def page(table: Table, *, cost: bool = False, by_form: bool = False, narrow: bool = False, differences_alone: bool = False) -> Page:
    """The page of a table. by_form: also every category's question forms; differences_alone: no other grid than these."""
    if differences_alone:
        grid = differences(table) if table.categories else errors(table)
        return Page(table.sweep, (grid,) if any(grid.blocks) else (), tuple(notes(table)))
    found = grids(table, cost=cost, narrow=narrow)
    if by_form:
        found += [grid for grid in (forms(table, category) for category in table.categories.names) if any(grid.blocks)]
    return Page(table.sweep, tuple(found), tuple(notes(table)))


def grids(table: Table, *, cost: bool = False, narrow: bool = False) -> list[Grid]:
    """The grids of a table; empty ones are left out.

    cost: adds device-hours, rates and memory; narrow: leaves the errors out of the accuracies, for terminals.
    """
    tested = [tests(row, table.auxiliary) for row in table.rows]
    tested = [grid for grid in tested if grid.blocks]
    tested = tested if len(tested) <= MOST_TESTED[narrow] else []
    asked = [accuracy(table, not narrow), differences(table), *tested] if table.categories else []
    candidates = [*asked, errors(table), errors(table, every=True)]
    candidates += [auxiliary(table, stage) for stage in table.auxiliary]
    if cost:
        candidates.append(costs(table))
    return [grid for grid in candidates if any(grid.blocks)]


def accuracy(table: Table, with_errors: bool = True) -> Grid:
    """Percent of questions, with the 95 % interval, and the errors of visible slots; below rules the levels without the video,
    and published rows."""
    names = [n for n in ERROR_NAMES if with_errors and not n.endswith(ALL) and any(n in row.errors for row in table.rows)]
    ours = []
    for row in table.rows:
        accuracies = [_accuracy(row.estimates[m]) for m in table.categories.metrics]
        means = [number(row.errors[n].mean, ERROR_DIGITS) if n in row.errors else DASH for n in names]
        ours.append((row_text.named(row), _seeds(row), *accuracies, *means))
    blind = [
        (level.label, DASH, *(number(level.means.get(m)) for m in table.categories.metrics), *(DASH for _ in names))
        for level in table.blind
    ]
    theirs = []
    for quote in table.quoted:
        accuracies = [number(quote.metrics.get(m)) for m in table.categories.metrics]
        means = [number(quote.errors.get(n), ERROR_DIGITS) for n in names]
        theirs.append((f"{quote.label} (reported)", "1", *accuracies, *means))
    header = ("point", "seeds", *map(metric_name, table.categories.metrics), *map(metric_name, names))
    better = ("", "", *("higher" for _ in table.categories.metrics), *("lower" for _ in names))
    title = "Accuracy (% of questions, mean with 95 % interval)"
    return Grid(title, header, _blocks(ours, blind, theirs), best=best_cells(ours, better))


def differences(table: Table) -> Grid:
    """Differences to the baseline in points, paired by seed and question; then published ones and seed noise."""
    ours = []
    for row in table.rows:
        if not row.baseline:
            ours.append((row_text.named(row), str(row.paired), *(_difference(row.estimates[m]) for m in table.categories.metrics)))
    theirs = []
    for quote in table.quoted:
        if quote.deltas:
            theirs.append((f"{quote.label} (reported)", "1", *(signed(quote.deltas.get(m)) for m in table.categories.metrics)))
    noise = []
    for aa in table.noise:
        estimates = [row_text.with_interval(aa.delta[m], aa.low[m], aa.high[m], sign=True) for m in table.categories.metrics]
        noise.append((f"A/A: {aa.label}", str(aa.pairs), *estimates))
        noise.append(
            (f"A/A: {aa.label}, SD of a run", str(aa.runs), *(number(aa.deviation[m], 2) for m in table.categories.metrics))
        )
    title = f"Difference to the baseline (points, ± 95 % interval; {STAR} Holm p < 0.05)"
    return Grid(
        title, ("point", "pairs", *map(metric_name, table.categories.metrics)), _blocks(ours, theirs, noise) if ours else ()
    )


def tests(row: Row, stages: Sequence[AuxiliaryColumns] = ()) -> Grid:
    """The tests of a point's differences, a line a metric, then those of its errors and of auxiliary stages' columns.

    Empty without tests (the baseline, fewer than three seeds).
    """
    floor = statistics.sign_flip_floor(row.paired)
    least = f" (≥ {p_value(floor)})" if floor >= 0.001 else ""
    header = ("category", "difference", "95 % interval", "p", "Holm p", f"sign-flip p{least}", DETECTABLE)
    lines = []
    for m, estimate in row.estimates.items():
        lines.append(_test(metric_name(m), estimate))
    tested = {name: row.errors[name] for name in ERROR_NAMES if name in row.errors and row.errors[name].p_holm is not None}
    gaps = [_test(metric_name(name), estimate, GAP_DIGITS) for name, estimate in tested.items()]
    others = [
        _test(f"{stage.label}: {column.heading}", row.auxiliary[stage.kind][column.name], column.digits)
        for stage in stages
        for column in stage.tested
        if row.auxiliary.get(stage.kind, {}).get(column.name, MetricEstimate()).p is not None
    ]
    any_tested = any(estimate.p is not None for estimate in row.estimates.values())
    return Grid(f"Tests: {row_text.named(row)} against the baseline", header, _blocks(lines, gaps, others) if any_tested else ())


def _test(name: str, estimate: MetricEstimate, digits: int = 1) -> tuple[str, ...]:
    low, high = signed(estimate.delta_low, digits), signed(estimate.delta_high, digits)
    interval = DASH if estimate.delta_low is None else f"{low} to {high}"
    difference = signed(estimate.delta, digits) if estimate.reached else row_text.UNREACHED
    p_values = (p_value(estimate.p), p_value(estimate.p_holm), p_value(estimate.sign_flip))
    return (name, difference, interval, *p_values, row_text.detectable(estimate, digits))


def errors(table: Table, every: bool = False) -> Grid:
    """World-model errors, with their differences to the baseline: of visible slots, or of all (`every`); then published ones."""
    names = [name for name in _names(table, "errors") if name.endswith(ALL) is every]
    header = ["point", "seeds"]
    for name in names:
        header += [f"{name.removesuffix(ALL).replace('_', ' ')} error", "difference"]
    lines = []
    for row in table.rows:
        line = [row.label, _seeds(row)]
        for name in names:
            estimate = row.errors.get(name, MetricEstimate())
            line += [_mean(estimate, ERROR_DIGITS), _difference(estimate, GAP_DIGITS)]
        lines.append(tuple(line))
    theirs = []
    for quote in table.quoted:
        if any(name in quote.errors for name in names):
            means = [number(quote.errors.get(name), ERROR_DIGITS) for name in names]
            theirs.append((f"{quote.label} (reported)", "1", *(text for mean in means for text in (mean, DASH))))
    title = f"World model (mean squared error of {'all' if every else 'visible'} slots, lower is better)"
    best = best_cells(lines, ("", "", *(("lower", "") * len(names))))
    return Grid(title, tuple(header), _blocks(lines, theirs) if names else (), best=best)


def auxiliary(table: Table, stage: AuxiliaryColumns) -> Grid:
    """The columns of an auxiliary stage with their differences to the baseline; below rules the points' own levels, and
    reference levels."""
    found = [row.auxiliary.get(stage.kind, {}) for row in table.rows]
    known = [column for column in stage.columns if column.shown and any(column.name in row for row in found)]
    columns = [column for column in known if not column.level]
    levels: dict[str, dict[str, Column]] = {}
    for column in known:
        if column.level:
            levels.setdefault(column.heading, {})[column.level] = column
    header = ["point", "seeds"]
    for column in columns:
        detail = "" if stage.title or not column.detail else f" ({column.detail})"
        header += [f"{column.heading}{detail}", "difference"]
    ours, own, theirs = [], [], []
    for row, estimates in zip(table.rows, found, strict=True):
        ours.append((row.label, _seeds(row), *_compared(estimates, columns)))
        for heading, level_of in levels.items():
            if any(column.name in estimates for column in level_of.values()):
                texts = _compared(estimates, [level_of.get(column.name) for column in columns])
                own.append((f"{row.label}: {heading}", _seeds(row), *texts))
    for level in table.reference_levels:
        if level.kind == stage.kind:
            means = [number(level.estimates.get(column.name, MetricEstimate()).mean, column.digits) for column in columns]
            theirs.append((level.label, DASH, *(text for mean in means for text in (mean, DASH))))
    title = stage.title or f"{stage.label[:1].upper()}{stage.label[1:]}"
    better = ("", "", *(direction for column in columns for direction in (column.better, "")))
    return Grid(title, tuple(header), _blocks(ours, own, theirs) if columns else (), best=best_cells(ours, better))


def _compared(estimates: Mapping[str, MetricEstimate], columns: Sequence[Column | None]) -> list[str]:
    """Each column's mean and difference; dashes where it is None or not known."""
    texts = []
    for column in columns:
        estimate = MetricEstimate() if column is None else estimates.get(column.name, MetricEstimate())
        digits = 0 if column is None else column.digits
        texts += [_mean(estimate, digits), _difference(estimate, digits)]
    return texts


def costs(table: Table) -> Grid:
    """What a run cost, mean over seeds: in total, its shared prefix, and each of its own stages."""
    names = STAGE_NAMES | {stage.kind: stage.label for stage in table.auxiliary}
    blocks = []
    for row in table.rows:
        cost = row.cost
        lines = [("total", _time(cost.get("device_hours")), DASH, DASH)]
        lines.append(("shared prefix", _time(cost.get("shared_prefix_hours")), DASH, DASH))
        for kind, name in names.items():
            estimates = [cost.get(f"{kind}_{what}") for what in ("hours", "rate", "memory_mib")]
            if any(estimate is not None for estimate in estimates):
                lines.append((name, _time(estimates[0]), number(estimates[1], 1), number(estimates[2], 0)))
        blocks.append(tuple((row.label if n == 0 else "", *line) for n, line in enumerate(lines)))
    title = "Cost (mean of a run; it: a training step, or a video; memory: peak of the device, or of the process on a CPU)"
    paid = any(row.cost for row in table.rows)
    return Grid(title, ("point", "stage", "device time", "it/s", "memory, MiB"), tuple(blocks) if paid else (), text_columns=2)


def _time(hours: float | None) -> str:
    return DASH if hours is None else duration(3600 * hours)


def forms(table: Table, category: str) -> Grid:
    """A category's question forms: accuracy and difference of every point."""
    names = sorted({name for row in table.rows for name in row.forms if name.split("/")[0] == category})
    blocks = []
    for row in table.rows:
        lines = []
        for name in names:
            estimate = row.forms.get(name, MetricEstimate())
            line = (_accuracy(estimate), _difference(estimate), row_text.detectable(estimate))
            lines.append((row_text.named(row) if name == names[0] else "", name.partition("/")[2], *line))
        blocks.append(tuple(lines))
    header = ("point", "form", "accuracy", "difference", DETECTABLE)
    return Grid(f"{metric_name(category).capitalize()} questions by form", header, tuple(blocks), text_columns=2)


def notes(table: Table) -> list[str]:
    """The lines under the grids: a sentence a row, marks, warnings, reach, sources, and seed noise."""
    lines = [f"{row.label}: {row.sentence}" for row in table.rows]
    marks = dict.fromkeys(mark for row in table.rows for mark in row.marks)
    lines += [f"{mark}: {row_text.MARKS[mark]}" for mark in marks if mark in row_text.MARKS]
    if table.blind:
        lines.append(row_text.BLIND_NOTE)
    lines += [f"warning: {warning}" for warning in table.warnings]
    lines += [
        row_text.unread_sentence(stage.label, table.unread[stage.kind]) for stage in table.auxiliary if stage.kind in table.unread
    ]
    lines += device_notes(table.rows)
    lines += table.reach
    sources: dict[str, list[str]] = {}
    for quote in table.quoted:
        sources.setdefault(quote.source, []).append(quote.label)
    lines += [f"reported ({'; '.join(labels)}): {source}" for source, labels in sources.items()]
    lines += [table.protocol] if table.quoted and table.protocol else []
    lines += [row_text.noise_sentence(row) for row in table.noise]
    if not table.noise and table.categories:
        lines.append("Seed noise not estimated: run `ctt sweep noise`")
    return lines


def estimate_text(estimate: MetricEstimate, value: str) -> str:
    """An estimate's mean or difference (`value` mean or delta) with its interval, as the grids show it."""
    return _difference(estimate) if value == "delta" else _accuracy(estimate)


def _accuracy(estimate: MetricEstimate) -> str:
    return _mean(estimate) + (row_text.BLIND if estimate.above_blind is False else "")


def _mean(estimate: MetricEstimate, digits: int = 1) -> str:
    return row_text.with_interval(estimate.mean, estimate.low, estimate.high, digits)


def _delta(estimate: MetricEstimate, digits: int = 1) -> str:
    return row_text.with_interval(estimate.delta, estimate.delta_low, estimate.delta_high, digits, sign=True)


def _difference(estimate: MetricEstimate, digits: int = 1) -> str:
    if not estimate.reached:
        return row_text.UNREACHED
    found = estimate.p_holm is not None and estimate.p_holm < row_text.LEAST_P
    return _delta(estimate, digits) + (STAR if found else "")


def _seeds(row: Row) -> str:
    expected = len(row.seeds) + len(row.missing)
    return str(len(row.seeds)) if not row.missing else f"{len(row.seeds)} of {expected}"


def _names(table: Table, kind: str) -> list[str]:
    """Names in use, the known errors first."""
    names = {name for row in table.rows for name in getattr(row, kind)}
    return [n for n in ERROR_NAMES if n in names] + sorted(names - set(ERROR_NAMES))


def _blocks(*groups: Sequence[tuple[str, ...]]) -> tuple[tuple[tuple[str, ...], ...], ...]:
    return tuple(tuple(group) for group in groups if group)
