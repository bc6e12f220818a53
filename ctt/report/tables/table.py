"""Table: the rows of a comparison, one for each point, with intervals and differences to the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ctt.data.categories import AVERAGE, CLEVRER_CATEGORIES, Categories
from ctt.report.published import Quoted, quoted
from ctt.report.results import PointResults, Results, RunResults, read
from ctt.report.tables import row_text
from ctt.report.tables.auxiliary_rows import AuxiliaryTallies, ReferenceLevel, reference_levels
from ctt.report.tables.blind_rows import BlindLevel, against_blind, blind_level
from ctt.report.tables.detectable_rows import with_detectable
from ctt.report.tables.estimates import (
    MetricEstimate,
    number_estimate,
    option_estimates,
    question_estimates,
)
from ctt.report.tables.families import with_holm
from ctt.report.tables.noise_row import NoiseRow, noise_row
from ctt.report.tables.row import Row
from ctt.report.tables.run_warnings import warnings_of
from ctt.report.tallies import QuestionLayout, Tallies, Tally
from ctt.stages.columns import AuxiliaryColumns


@dataclass(frozen=True)
class Table:
    """A sweep's comparison. Each of `warnings` names its row; `noise` is empty without A/A runs.

    auxiliary: the auxiliary stages, in the order in which the table has their columns.
    reference_levels: the accuracies of auxiliary stages without a world model; blind: those without the video.
    unread: the questions that auxiliary stages cannot read, as in `Results`.
    """

    sweep: str
    rows: tuple[Row, ...]
    auxiliary: tuple[AuxiliaryColumns, ...] = ()
    reference_levels: tuple[ReferenceLevel, ...] = ()
    unread: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    blind: tuple[BlindLevel, ...] = ()
    quoted: tuple[Quoted, ...] = ()
    noise: tuple[NoiseRow, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    reach: tuple[str, ...] = ()
    protocol: str = ""
    same_protocol: bool = True
    categories: Categories = CLEVRER_CATEGORIES

    @property
    def shown(self) -> tuple[str, ...]:
        """The metrics of pictures: of each category and the average; the errors of data without questions."""
        if self.categories:
            return (*self.categories.names, AVERAGE)
        return _error_names(list(self.rows))

    @property
    def leading(self) -> str:
        """The metric by which points are compared where none is chosen: the average, or the error furthest along."""
        return self.shown[-1] if self.shown else AVERAGE

    @property
    def baseline(self) -> Row | None:
        """The baseline's row, if the sweep has one."""
        return next((row for row in self.rows if row.baseline), None)


@dataclass
class _Measured:
    """The runs of one point that have predictions over one layout, or without questions errors, by seed."""

    point: PointResults
    runs: list[RunResults]
    tallies: list[Tally]
    missing: list[int]
    other_questions: list[int]
    auxiliary: AuxiliaryTallies
    categories: Categories

    @property
    def layout(self) -> QuestionLayout | None:
        return self.tallies[0].layout if self.tallies else None


def build(results: Results) -> Table:
    """The table of a sweep's results; the same results in any order give the same table.

    Raises DataError for malformed predictions, UsageError for an unknown name of a published row.
    """
    categories = results.categories
    tallies, others = Tallies(categories), {stage.kind: Tallies(categories) for stage in results.auxiliary}
    measured = [_measure(results, index, tallies, others) for index in range(len(results.points))]
    base = next((m for m in measured if m.point.baseline), None)
    levels = {label: tallies.count(read(answers), label) for label, answers in results.blind.items()}
    rows = [_row(m, base, results.auxiliary, list(levels.values())) for m in measured]
    noise = tuple(noise_row(noise, tallies) for noise in results.noise)
    in_view = [name for name in _error_names(rows) if not name.endswith("_all")]
    rows = with_holm(rows, categories.names, in_view or _error_names(rows), results.auxiliary)
    rows = with_detectable(rows, noise)
    rows = [replace(row, sentence=row_text.sentence(row, results.auxiliary)) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: not rows[i].baseline)
    warnings = [f"{rows[i].label}: {warning}" for i in order for warning in rows[i].warnings]
    return Table(
        sweep=results.sweep,
        rows=tuple(rows[i] for i in order),
        auxiliary=tuple(results.auxiliary),
        reference_levels=reference_levels(results.auxiliary, results.reference_levels, others),
        unread=results.unread,
        blind=tuple(blind_level(label, tally) for label, tally in levels.items()),
        quoted=tuple(quoted(results.quoted)),
        noise=noise,
        warnings=tuple(warnings),
        reach=tuple(results.reach),
        protocol=results.protocol,
        same_protocol=results.same_protocol,
        categories=categories,
    )


def _measure(results: Results, index: int, tallies: Tallies, auxiliary: Mapping[str, Tallies]) -> _Measured:
    """Reads and reduces one point's predictions, frame by frame; keeps the runs with the most common layout."""
    runs = sorted((run for run in results.runs if run.point == index), key=lambda run: run.seed)
    point = results.points[index]
    if not results.categories:
        done = [run for run in runs if run.errors]
        of = AuxiliaryTallies.of(results.auxiliary, done, auxiliary, point.label)
        return _Measured(point, done, [], [run.seed for run in runs if not run.errors], [], of, results.categories)
    found: dict[int, tuple[QuestionLayout, list[tuple[RunResults, Tally]]]] = {}
    for run in runs:
        if run.predictions is not None:
            tally = tallies.count(read(run.predictions), f"{point.label}, seed {run.seed}")
            found.setdefault(id(tally.layout), (tally.layout, []))[1].append((run, tally))
    kept = max((members for _, members in found.values()), key=len, default=[])
    others = [run.seed for _, members in found.values() if members is not kept for run, _ in members]
    missing = [run.seed for run in runs if run.predictions is None]
    answered = [run for run, _ in kept]
    measured = AuxiliaryTallies.of(results.auxiliary, answered, auxiliary, point.label)
    return _Measured(point, answered, [tally for _, tally in kept], missing, sorted(others), measured, results.categories)


def _row(measured: _Measured, base: _Measured | None, auxiliary: Sequence[AuxiliaryColumns], blind: Sequence[Tally]) -> Row:
    point, layout, categories = measured.point, measured.layout, measured.categories
    pairs = _pairs(measured, base)
    warnings = _warnings(measured, base, pairs)
    if layout is None:
        estimates = {metric: MetricEstimate() for metric in categories.metrics}
        options: dict[str, MetricEstimate] = {metric: MetricEstimate() for metric in categories.option_metrics}
        forms: dict[str, MetricEstimate] = {}
    else:
        answers, paired = measured.tallies, [(measured.tallies[i], base.tallies[j]) for i, j in pairs] if base else []
        estimates = question_estimates(categories.metrics, answers, paired, point.unreached)
        options = option_estimates(categories.option_metrics, answers, paired, point.unreached)
        forms = question_estimates(layout.form_names, answers, paired, point.unreached)
        estimates, forms = (against_blind(found, answers, blind) for found in (estimates, forms))
    return Row(
        label=point.label,
        values=dict(point.values),
        baseline=point.baseline,
        marks=tuple(point.marks),
        seeds=tuple(run.seed for run in measured.runs),
        paired=len(pairs),
        missing=tuple(measured.missing),
        estimates=estimates,
        options=options,
        forms=forms,
        errors=_errors(measured.runs, base),
        auxiliary={
            stage.kind: measured.auxiliary.estimates(stage, None if base is measured or base is None else base.auxiliary)
            for stage in auxiliary
        },
        cost=_means([run.cost for run in measured.runs]),
        devices=_devices(measured.runs),
        warnings=tuple(warnings),
        by_seed=_by_seed(measured),
    )


def _devices(runs: Sequence[RunResults]) -> dict[str, tuple[str, ...]]:
    """What each kind of stage ran on, over all runs."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for label, devices in run.devices.items():
            found.setdefault(label, {}).update(dict.fromkeys(devices))
    return {label: tuple(sorted(devices)) for label, devices in found.items()}


def _by_seed(measured: _Measured) -> dict[str, dict[int, float]]:
    """Each accuracy and error by seed."""
    found: dict[str, dict[int, float]] = {}
    for run, tally in zip(measured.runs, measured.tallies, strict=False):
        asked = tally.layout.membership(measured.categories.metrics) @ tally.layout.questions
        for metric, right, of in zip(measured.categories.metrics, tally.pooled().sum(-1), asked.sum(-1), strict=True):
            if of:
                found.setdefault(metric, {})[run.seed] = 100.0 * float(right) / float(of)
    for run in measured.runs:
        for name, value in run.errors.items():
            found.setdefault(name, {})[run.seed] = value
    return found


def _pairs(measured: _Measured, base: _Measured | None) -> list[tuple[int, int]]:
    """Positions (in the point's runs, in the baseline's runs) of the seeds that both have, over the same questions."""
    if base is None or measured is base or measured.layout is not base.layout:
        return []
    position = {run.seed: j for j, run in enumerate(base.runs)}
    return [(i, position[run.seed]) for i, run in enumerate(measured.runs) if run.seed in position]


def _warnings(measured: _Measured, base: _Measured | None, pairs: list[tuple[int, int]]) -> list[str]:
    warnings = []
    if measured.missing:
        runs = len(measured.runs) + len(measured.missing) + len(measured.other_questions)
        warnings.append(f"{len(measured.missing)} of {runs} runs missing ({row_text.seeds(measured.missing)})")
    if measured.other_questions:
        warnings.append(f"left out because of other questions than the rest: {row_text.seeds(measured.other_questions)}")
    warnings += warnings_of(measured.runs)
    if base is None or measured is base or not measured.runs:
        return warnings
    if measured.layout is not base.layout:
        reason = "there is no baseline run" if base.layout is None else "its questions are not the baseline's"
        return [*warnings, f"no differences: {reason}"]
    if len(pairs) < len(measured.runs):
        unpaired = sorted({run.seed for run in measured.runs} - {measured.runs[i].seed for i, _ in pairs})
        warnings.append(f"no baseline run to pair with: {row_text.seeds(unpaired)}")
    unlike = [measured.runs[i].seed for i, j in pairs if measured.runs[i].numerics != base.runs[j].numerics]
    if unlike:
        warnings.append(f"numerics differ from the baseline's ({row_text.seeds(unlike)}): not comparable bit for bit")
    return warnings


def _errors(runs: list[RunResults], base: _Measured | None) -> dict[str, MetricEstimate]:
    """Estimates of the errors, one number a run, with plain t intervals over the seeds."""
    compared = base is not None and runs is not base.runs
    estimates = {}
    for key in sorted({key for run in runs for key in run.errors}):
        mine = {run.seed: run.errors[key] for run in runs if key in run.errors}
        theirs = {run.seed: run.errors[key] for run in base.runs if key in run.errors} if base is not None and compared else None
        estimates[key] = number_estimate(mine, theirs)
    return estimates


def _means(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = sorted({name for record in records for name in record})
    return {name: float(np.mean([record[name] for record in records if name in record])) for name in names}


def _error_names(rows: list[Row]) -> tuple[str, ...]:
    """The errors that any row has, those of training first."""
    return tuple(name for name in row_text.ERROR_NAMES if any(name in row.errors for row in rows))
