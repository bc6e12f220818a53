"""Table: the rows of a comparison, one a point, each metric with its interval and its difference to the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ctt.report import statistics, words
from ctt.report.noise import NoiseRow, noise_row
from ctt.report.quoted import Quoted, quoted
from ctt.report.results import CATEGORIES, METRICS, MULTIPLE_CHOICE, Point, Results, Run, read
from ctt.report.statistics import Estimate
from ctt.report.tally import Layout, Tallies, Tally

OPTION_METRICS = (*MULTIPLE_CHOICE, "multiple_choice")


@dataclass(frozen=True)
class Cell:
    """One number of a row, in percent (differences in points) or, for errors, in the error's own unit.

    None: not known (no runs, under three seeds, no pair with the baseline). `reached` is False where the swept values
    cannot reach the category; then every field of the difference is None.
    """

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    delta: float | None = None
    delta_low: float | None = None
    delta_high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    sign_flip: float | None = None
    smallest: float | None = None
    reached: bool = True


@dataclass(frozen=True)
class Row:
    """One point over its seeds. `cells` holds the six metrics, `options` per option, `forms` per question form.

    seeds: those that were measured; paired: how many of them the baseline has too; missing: seeds without a result.
    """

    label: str
    values: Mapping[str, Any]
    baseline: bool
    marks: tuple[str, ...]
    seeds: tuple[int, ...]
    paired: int
    missing: tuple[int, ...]
    cells: dict[str, Cell]
    options: dict[str, Cell]
    forms: dict[str, Cell]
    errors: dict[str, Cell]
    reader: dict[str, Cell]
    cost: dict[str, float]
    warnings: tuple[str, ...] = ()
    sentence: str = ""


@dataclass(frozen=True)
class Table:
    """A sweep's comparison. `warnings` concern its rows, named in each; `noise` is empty if no A/A runs were there."""

    sweep: str
    rows: tuple[Row, ...]
    quoted: tuple[Quoted, ...] = ()
    noise: tuple[NoiseRow, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    reach: tuple[str, ...] = ()

    @property
    def baseline(self) -> Row | None:
        """The baseline's row, if the sweep has one."""
        return next((row for row in self.rows if row.baseline), None)


@dataclass
class _Measured:
    """The runs of one point that have predictions over one layout, in the order of their seeds."""

    point: Point
    runs: list[Run]
    tallies: list[Tally]
    missing: list[int]
    other_questions: list[int]

    @property
    def layout(self) -> Layout | None:
        return self.tallies[0].layout if self.tallies else None


def build(results: Results) -> Table:
    """The table of a sweep's results; the same results in any order give the same table.

    Raises DataError for predictions that cannot be read as such, UsageError for a quoted name that does not exist.
    """
    tallies = Tallies()
    measured = [_measure(results, index, tallies) for index in range(len(results.points))]
    base = next((m for m in measured if m.point.baseline), None)
    rows = [_row(m, base) for m in measured]
    rows = _with_holm(rows)
    rows = [replace(row, sentence=words.sentence(row)) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: not rows[i].baseline)
    warnings = [f"{rows[i].label}: {warning}" for i in order for warning in rows[i].warnings]
    return Table(
        sweep=results.sweep,
        rows=tuple(rows[i] for i in order),
        quoted=tuple(quoted(results.quoted)),
        noise=tuple(noise_row(noise, tallies) for noise in results.noise),
        warnings=tuple(warnings),
        reach=tuple(results.reach),
    )


def _measure(results: Results, index: int, tallies: Tallies) -> _Measured:
    """Reads and reduces one point's predictions, frame by frame; keeps the runs that share the commonest layout."""
    runs = sorted((run for run in results.runs if run.point == index), key=lambda run: run.seed)
    point = results.points[index]
    found: dict[int, tuple[Layout, list[tuple[Run, Tally]]]] = {}
    for run in runs:
        if run.predictions is not None:
            tally = tallies.count(read(run.predictions), f"{point.label}, seed {run.seed}")
            found.setdefault(id(tally.layout), (tally.layout, []))[1].append((run, tally))
    kept = max((members for _, members in found.values()), key=len, default=[])
    others = [run.seed for _, members in found.values() if members is not kept for run, _ in members]
    missing = [run.seed for run in runs if run.predictions is None]
    return _Measured(point, [run for run, _ in kept], [tally for _, tally in kept], missing, sorted(others))


def _row(measured: _Measured, base: _Measured | None) -> Row:
    point, layout = measured.point, measured.layout
    pairs = _pairs(measured, base)
    warnings = _warnings(measured, base, pairs)
    if layout is None:
        cells = {metric: Cell() for metric in METRICS}
        options: dict[str, Cell] = {metric: Cell() for metric in OPTION_METRICS}
        forms: dict[str, Cell] = {}
    else:
        right = np.stack([tally.right for tally in measured.tallies])
        chosen = np.stack([tally.right_options for tally in measured.tallies])
        right_diff = chosen_diff = None
        if pairs and base is not None:
            here, there = [i for i, _ in pairs], [j for _, j in pairs]
            right_diff = right[here].astype(np.int32) - np.stack([base.tallies[j].right for j in there])
            chosen_diff = chosen[here].astype(np.int32) - np.stack([base.tallies[j].right_options for j in there])
        unreached = set(point.unreached)
        cells = _cells(METRICS, layout, layout.asked, right, right_diff, unreached)
        options = _cells(OPTION_METRICS, layout, layout.options, chosen, chosen_diff, unreached)
        forms = _cells(layout.form_names, layout, layout.asked, right, right_diff, unreached)
    return Row(
        label=point.label,
        values=dict(point.values),
        baseline=point.baseline,
        marks=tuple(point.marks),
        seeds=tuple(run.seed for run in measured.runs),
        paired=len(pairs),
        missing=tuple(measured.missing),
        cells=cells,
        options=options,
        forms=forms,
        errors=_numbers("errors", measured.runs, base),
        reader=_numbers("reader", measured.runs, base),
        cost=_means([run.cost for run in measured.runs]),
        warnings=tuple(warnings),
    )


def _pairs(measured: _Measured, base: _Measured | None) -> list[tuple[int, int]]:
    """Positions (in the point's runs, in the baseline's runs) of the seeds that both have, over the same questions."""
    if base is None or measured is base or measured.layout is not base.layout or measured.layout is None:
        return []
    there = {run.seed: j for j, run in enumerate(base.runs)}
    return [(i, there[run.seed]) for i, run in enumerate(measured.runs) if run.seed in there]


def _warnings(measured: _Measured, base: _Measured | None, pairs: list[tuple[int, int]]) -> list[str]:
    warnings = []
    if measured.missing:
        runs = len(measured.runs) + len(measured.missing) + len(measured.other_questions)
        warnings.append(f"{len(measured.missing)} of {runs} runs missing ({words.seeds(measured.missing)})")
    if measured.other_questions:
        warnings.append(f"left out, other questions than the rest: {words.seeds(measured.other_questions)}")
    warned = [run for run in measured.runs if run.warning]
    if warned:
        warnings.append(f"{warned[0].warning} ({words.seeds([run.seed for run in warned])})")
    if base is None or measured is base or not measured.runs:
        return warnings
    if measured.layout is not base.layout:
        asked = "there is no baseline run" if base.layout is None else "its questions are not the baseline's"
        return [*warnings, f"no differences: {asked}"]
    if len(pairs) < len(measured.runs):
        alone = sorted({run.seed for run in measured.runs} - {measured.runs[i].seed for i, _ in pairs})
        warnings.append(f"no baseline run to pair with: {words.seeds(alone)}")
    unlike = [measured.runs[i].seed for i, j in pairs if measured.runs[i].numerics != base.runs[j].numerics]
    if unlike:
        warnings.append(f"numerics differ from the baseline's ({words.seeds(unlike)}): not comparable bit for bit")
    return warnings


def _cells(
    metrics: tuple[str, ...],
    layout: Layout,
    asked_fv: np.ndarray,
    right_nfv: np.ndarray,
    difference_nfv: np.ndarray | None,
    unreached: set[str],
) -> dict[str, Cell]:
    """Cells of metrics that pool forms: level over all seeds, difference over the paired ones."""
    member_mf = layout.membership(metrics)
    asked_mv = member_mf @ asked_fv
    level = statistics.estimate(_pool(member_mf, right_nfv), asked_mv)
    cells = []
    for m in range(len(metrics)):
        cells.append(Cell(mean=_known(level.value[m]), low=_known(level.low[m]), high=_known(level.high[m])))
    if difference_nfv is not None:
        pooled_mnv = _pool(member_mf, difference_nfv)
        difference = statistics.estimate(pooled_mnv, asked_mv)
        seeds = difference_nfv.shape[0]
        flip = statistics.sign_flip(pooled_mnv.sum(-1)) if seeds >= statistics.LEAST_SEEDS else None
        cells = [_with_difference(cell, difference, flip, m) for m, cell in enumerate(cells)]
    for m, metric in enumerate(metrics):
        if metric.split("/")[0] in unreached:
            cells[m] = Cell(mean=cells[m].mean, low=cells[m].low, high=cells[m].high, reached=False)
    return dict(zip(metrics, cells, strict=True))


def _pool(member_mf: np.ndarray, counts_nfv: np.ndarray) -> np.ndarray:
    """Counts (n,F,V) summed over each metric's forms: (M,n,V)."""
    if (member_mf.sum(1) == 1).all():  # every metric is one form: nothing to sum
        return counts_nfv[:, member_mf.argmax(1)].swapaxes(0, 1)
    return np.stack([member_mf @ counts_fv for counts_fv in counts_nfv], axis=1)


def _with_difference(cell: Cell, difference: Estimate, flip: np.ndarray | None, m: int) -> Cell:
    return replace(
        cell,
        delta=_known(difference.value[m]),
        delta_low=_known(difference.low[m]),
        delta_high=_known(difference.high[m]),
        p=_known(difference.p[m]),
        smallest=_known(difference.smallest[m]),
        sign_flip=None if flip is None or not np.isfinite(difference.value[m]) else float(flip[m]),
    )


def _numbers(name: str, runs: list[Run], base: _Measured | None) -> dict[str, Cell]:
    """Cells of the numbers that come one a run (`name` is errors or reader), with plain t intervals over the seeds."""
    cells = {}
    for key in sorted({key for run in runs for key in getattr(run, name)}):
        mine = {run.seed: getattr(run, name)[key] for run in runs if key in getattr(run, name)}
        level = statistics.paired(np.array(list(mine.values())))
        cell = Cell(mean=_known(level.value), low=_known(level.low), high=_known(level.high))
        if base is not None and runs is not base.runs:
            theirs = {run.seed: getattr(run, name)[key] for run in base.runs if key in getattr(run, name)}
            both = [seed for seed in mine if seed in theirs]
            if both:
                gaps = np.array([mine[seed] - theirs[seed] for seed in both])
                flip = statistics.sign_flip(gaps)[None] if gaps.size >= statistics.LEAST_SEEDS else None
                estimate = statistics.paired(gaps[None])
                cell = _with_difference(cell, estimate, flip, 0)
        cells[key] = cell
    return cells


def _means(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = sorted({name for record in records for name in record})
    return {name: float(np.mean([record[name] for record in records if name in record])) for name in names}


def _with_holm(rows: list[Row]) -> list[Row]:
    """Adds Holm's p over points × the four categories; the pooled metrics stay outside the family."""
    p = [[row.cells[c].p for c in CATEGORIES] for row in rows]
    adjusted = statistics.holm(np.array([[np.nan if v is None else v for v in line] for line in p], dtype=np.float64))
    out = []
    for row, line in zip(rows, adjusted.reshape(len(rows), len(CATEGORIES)), strict=True):
        cells = dict(row.cells)
        for category, value in zip(CATEGORIES, line, strict=True):
            cells[category] = replace(cells[category], p_holm=_known(value))
        out.append(replace(row, cells=cells))
    return out


def _known(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
