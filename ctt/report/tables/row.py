"""Row: one point of a comparison, over its seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctt.report.tables.estimates import MetricEstimate


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
    estimates: dict[str, MetricEstimate]
    options: dict[str, MetricEstimate]
    forms: dict[str, MetricEstimate]
    errors: dict[str, MetricEstimate]
    reader: dict[str, MetricEstimate]
    cost: dict[str, float]
    warnings: tuple[str, ...] = ()
    sentence: str = ""
