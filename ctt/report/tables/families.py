"""Families of tests: Holm's adjustment of the differences that are looked at together.

Retrained rows are one family (points × categories), screened rows another: their ALOE is the baseline's, so that they are
another experiment. The errors of world models and rollouts are a family (points × errors, of slots in view where that is known),
and each auxiliary stage is one (points × its columns, but those per option).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ctt.report import statistics
from ctt.report.tables.estimates import MetricEstimate, known
from ctt.report.tables.row import SCREENED, Row
from ctt.stages.columns import AuxiliaryColumns


def with_holm(
    rows: Sequence[Row], categories: Sequence[str], errors: Sequence[str], auxiliary: Sequence[AuxiliaryColumns]
) -> list[Row]:
    """The rows with Holm's p; pooled metrics, forms and options are in no family."""
    out = list(rows)
    for screened in (False, True):
        members = [i for i, row in enumerate(rows) if (SCREENED in row.marks) is screened]
        for i, estimates in zip(members, _adjusted([rows[i].estimates for i in members], categories), strict=True):
            out[i] = replace(out[i], estimates=estimates)
    for i, estimates in enumerate(_adjusted([row.errors for row in rows], errors)):
        out[i] = replace(out[i], errors=estimates)
    for stage in auxiliary:
        tested = [column.name for column in stage.tested]
        for i, estimates in enumerate(_adjusted([row.auxiliary.get(stage.kind, {}) for row in rows], tested)):
            out[i] = replace(out[i], auxiliary={**out[i].auxiliary, stage.kind: estimates})
    return out


def _adjusted(family: Sequence[dict[str, MetricEstimate]], names: Sequence[str]) -> list[dict[str, MetricEstimate]]:
    """Each row's estimates with Holm's p of those called `names`, over all rows."""
    nothing = MetricEstimate()
    p = [[estimates.get(name, nothing).p for name in names] for estimates in family]
    values = np.array([[np.nan if v is None else v for v in line] for line in p], dtype=np.float64)
    adjusted = statistics.holm(values).reshape(len(family), len(names))
    return [
        estimates
        | {name: replace(estimates[name], p_holm=known(v)) for name, v in zip(names, line, strict=True) if name in estimates}
        for estimates, line in zip(family, adjusted, strict=True)
    ]
