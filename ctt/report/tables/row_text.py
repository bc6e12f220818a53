"""Texts of a table: numbers, and a sentence on what each row shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from scipy import special

from ctt.core.units import count
from ctt.data.categories import single
from ctt.report.tables.estimates import MetricEstimate
from ctt.report.tables.noise_row import NoiseRow
from ctt.report.tables.row import SCREENED, Row
from ctt.stages.columns import AuxiliaryColumns
from ctt.stages.rollout import Rollout
from ctt.stages.vqa import Vqa
from ctt.stages.world_model import WorldModel

DASH = "–"
MINUS = "−"
PLUS_MINUS = "±"
UNREACHED = "not reachable"
LEAST_P = 0.05
BLIND = "°"
BLIND_NOTE = f"{BLIND} not shown to be above the levels without the video (95 %, paired by question, over seeds and videos)"
"""Stands at an accuracy that answering without the video may reach, and what it means."""
MOST_UNREAD = 3
"""Questions that cannot be read and that a note names."""
NEARLY_EVEN = 0.2
"""Up to which difference of an interval's sides, as a share of their mean, it is written with one number."""
UNCERTAIN = 2.0
"""From which ratio of its upper to its lower bound on a sentence states how uncertain a minimum detectable difference is."""
DETECTABLE = "min. detectable difference (80 % power)"

STAGE_NAMES = {stage.kind: stage.label for stage in (WorldModel, Rollout, Vqa)}
ERROR_NAMES = {
    "world_model": "world model error (visible slots)",
    "world_model_all": "world model error (all slots)",
    "rollout": "rollout error (visible slots)",
    "rollout_all": "rollout error (all slots)",
}
"""What mean squared errors are called: those of slots whose object is in view, where that is known, and of all slots."""
ERROR_DIGITS = 4
GAP_DIGITS = 5
MARKS = {
    SCREENED: "answered by the baseline's ALOE, which never saw this point's rollouts: a shift of them can only count against it; "
    "`ctt promote` retrains ALOE for the best points"
}
"""The meaning of the marks of rows."""


def number(value: float | None, digits: int = 1) -> str:
    """ "57.5", halves rounded away from 0, with a true minus; a dash for None."""
    if value is None:
        return DASH
    text = str(Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def metric_name(metric: str) -> str:
    """How an accuracy or an error is written: "multiple choice", "rollout error (all slots)"."""
    return ERROR_NAMES.get(metric) or metric.replace("_", " ")


def level_text(metric: str, value: float | None) -> str:
    """An accuracy in percent, or an error: "57.5 %", "0.0147"."""
    return number(value, ERROR_DIGITS) if metric in ERROR_NAMES else f"{number(value)} %"


def gap_digits(metric: str) -> int:
    """Decimals of a difference."""
    return GAP_DIGITS if metric in ERROR_NAMES else 1


def unit(metric: str) -> str:
    """What an accuracy or an error is measured in."""
    return "mean squared error" if metric in ERROR_NAMES else "% of questions"


def signed(value: float | None, digits: int = 1) -> str:
    """ "+0.4", "−0.4" or "0.0"; a dash for None."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and float(text) > 0 else text


def with_interval(value: float | None, low: float | None, high: float | None, digits: int = 1, *, sign: bool = False) -> str:
    """ "57.5 ±1.2", by the larger side if the sides differ by little; else "99.1 −1.4+0.6" or "57.5 −9+12".

    Without an interval the value alone.
    """
    text = signed(value, digits) if sign else number(value, digits)
    if value is None or low is None or high is None:
        return text
    below, above = max(0.0, value - low), max(0.0, high - value)
    if abs(above - below) <= NEARLY_EVEN * (above + below) / 2:
        return f"{text} {PLUS_MINUS}{number(max(below, above), digits)}"
    rounded = 0 if digits == 1 and min(below, above) >= 2 else digits
    return f"{text} {MINUS}{number(below, rounded)}+{number(above, rounded)}"


def detectable(estimate: MetricEstimate, digits: int = 1) -> str:
    """ "2.2 (1.6 to 3.4)": the minimum detectable difference with its own interval."""
    if estimate.smallest is None or not estimate.smallest or estimate.smallest_low is None:
        return number(estimate.smallest, digits)
    low, high = number(estimate.smallest_low, digits), number(estimate.smallest_high, digits)
    return f"{number(estimate.smallest, digits)} ({low} to {high})"


def p_value(p: float | None) -> str:
    """ "0.03", "< 0.001"; a dash for None."""
    if p is None:
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def seeds(numbers: Sequence[int]) -> str:
    """ "seed 4", "seeds 1, 2, 4", "seeds 0 to 11, 14"."""
    parts: list[list[int]] = []
    for n in numbers:
        if parts and n == parts[-1][-1] + 1:
            parts[-1].append(n)
        else:
            parts.append([n])
    texts = [f"{part[0]} to {part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts]
    return f"seed{'' if len(numbers) == 1 else 's'} {', '.join(texts)}"


def named(row: Row) -> str:
    """A row's label with its marks: "ctt_inv_weight=0.2 (screened)"."""
    return f"{row.label} ({', '.join(row.marks)})" if row.marks else row.label


def sentence(row: Row, auxiliary: Sequence[AuxiliaryColumns] = ()) -> str:
    """What the row shows: the differences that are significant after Holm, and what was detectable of the others."""
    if row.baseline:
        return "differences are to this row"
    if not row.seeds:
        return "no results yet"
    if not row.paired:
        return "no run pairs with the baseline, so there is no difference"
    if not row.estimates:
        return _errors_sentence(row)
    known = {c: row.estimates[c] for c in single(list(row.estimates)) if row.estimates[c].delta is not None}
    if not any(estimate.p is not None for estimate in known.values()):
        return f"{count(row.paired, 'seed')}: too few to test a difference, at least 3 are needed"
    found: list[tuple[str, MetricEstimate]] = []
    rest: list[tuple[str, MetricEstimate]] = []
    for category, estimate in known.items():
        (found if estimate.p_holm is not None and estimate.p_holm < LEAST_P else rest).append((category, estimate))
    parts = []
    for category, estimate in found:
        assert estimate.delta is not None and estimate.delta_low is not None
        direction = "worse" if estimate.delta < 0 else "better"
        half = number(estimate.delta - estimate.delta_low)
        parts.append(f"{category} is {number(abs(estimate.delta))} ± {half} points {direction} (Holm p {_equals(estimate.p_holm)})")
    open_ones = [estimate for _, estimate in rest if estimate.smallest]
    if open_ones:
        where = " in the other categories" if found else ""
        parts.append(f"no evidence of a difference{where} ({count(row.paired, 'seed')}); {_all_detectable(open_ones)}")
    same = [category for category, estimate in rest if estimate.smallest == 0]
    if same:
        parts.append(f"{', '.join(same)}: as many right answers as the baseline in every video")
    unreached = [category for category in single(list(row.estimates)) if not row.estimates[category].reached]
    if unreached:
        parts.append(f"{', '.join(unreached)} cannot be reached by the swept settings")
    parts += _of_errors(row)
    parts += [part for stage in auxiliary for part in _of_auxiliary(row, stage)]
    if SCREENED in row.marks:
        parts.append("screened: a shift of its rollouts can only count against it")
    return "; ".join(parts)


def _of_errors(row: Row) -> list[str]:
    """Which errors differ after Holm, in a part of the row's sentence; [] if none does."""
    found = {name: e for name, e in row.errors.items() if e.p_holm is not None and e.p_holm < LEAST_P}
    gaps = [
        f"{metric_name(name)} differs by {with_interval(e.delta, e.delta_low, e.delta_high, GAP_DIGITS, sign=True)} "
        f"(Holm p {_equals(e.p_holm)})"
        for name, e in found.items()
    ]
    return [", ".join(gaps)] if gaps else []


def _of_auxiliary(row: Row, stage: AuxiliaryColumns) -> list[str]:
    """What an auxiliary stage's tested columns show, in a part of the row's sentence; [] without a test."""
    estimates = row.auxiliary.get(stage.kind, {})
    tested = [(column, estimates[column.name]) for column in stage.tested if column.name in estimates]
    tested = [(column, estimate) for column, estimate in tested if estimate.p_holm is not None]
    found = []
    for column, estimate in tested:
        if estimate.p_holm is not None and estimate.p_holm < LEAST_P and estimate.delta is not None:
            gap = with_interval(estimate.delta, estimate.delta_low, estimate.delta_high, column.digits, sign=True)
            unit = " points" if column.answers else f" {column.unit}" if column.unit else ""
            found.append(f"{column.heading} differs by {gap}{unit} (Holm p {_equals(estimate.p_holm)})")
    if not tested:
        return []
    if not found:
        open_ones = [estimate for column, estimate in tested if estimate.smallest and column.answers]
        detail = f"; {_all_detectable(open_ones)}" if open_ones else ""
        return [f"{stage.label}: no evidence of a difference{detail}"]
    rest = ", no evidence of a difference in its other columns" if len(found) < len(tested) else ""
    return [f"{stage.label}: {', '.join(found)}{rest}"]


def _all_detectable(estimates: Sequence[MetricEstimate]) -> str:
    """The minimum detectable differences of several categories, and how uncertain they are where they are so by half or more."""
    values = sorted(estimate.smallest for estimate in estimates if estimate.smallest)
    low, high = number(values[0]), number(values[-1])
    text = f"{DETECTABLE}: {low if low == high else f'{low} to {high}'} points"
    factors = [e.smallest_high / e.smallest_low for e in estimates if e.smallest_low and e.smallest_high]
    if not factors or max(factors) < UNCERTAIN:
        return text
    least = min(e.smallest_low for e in estimates if e.smallest_low)
    most = max(e.smallest_high for e in estimates if e.smallest_high)
    return f"{text}, themselves known only as {number(least)} to {number(most)} from so few seeds"


def _errors_sentence(row: Row) -> str:
    """What the row of runs on data without questions shows: the differences of their errors."""
    if not any(estimate.p is not None for estimate in row.errors.values()):
        return f"{count(row.paired, 'seed')}: too few to test a difference, at least 3 are needed"
    parts = []
    for name in ERROR_NAMES:
        if (estimate := row.errors.get(name)) is not None and estimate.delta is not None and estimate.delta_low is not None:
            half = number(estimate.delta - estimate.delta_low, GAP_DIGITS)
            parts.append(f"{metric_name(name)} {signed(estimate.delta, GAP_DIGITS)} ± {half} (Holm p {_equals(estimate.p_holm)})")
    return "; ".join(parts)


def unread_sentence(label: str, unread: Sequence[Mapping[str, Any]]) -> str:
    """How many questions the auxiliary stage `label` cannot read, and the first of them."""
    first = "; ".join(f"scene {one['scene']}, question {one['question_id']}: {one['reason']}" for one in unread[:MOST_UNREAD])
    more = f"; {len(unread) - MOST_UNREAD} more in the JSON" if len(unread) > MOST_UNREAD else ""
    return f"{label}: {count(len(unread), 'question')} not readable, counted as wrong in runs and levels ({first}{more})"


def noise_sentence(row: NoiseRow) -> str:
    """How far two single runs differ in 95 % of cases if only ALOE's seed differs."""
    start = f"Seed noise (A/A: {row.label}, {count(row.runs, 'run')})"
    differences = [(category, two_runs_apart(row.deviation[category], row.freedom)) for category in single(list(row.deviation))]
    known = [f"{category} {number(value)}" for category, value in differences if value is not None]
    if not known:
        return f"{start}: too few runs to estimate it"
    return f"{start}: in 95 % of cases two single runs differ by at most {', '.join(known)} points"


def two_runs_apart(deviation: float | None, freedom: int) -> float | None:
    """The largest difference of two runs in 95 % of cases, given a run's standard deviation and its degrees of freedom."""
    if deviation is None or freedom < 1:
        return None
    return float(special.stdtrit(freedom, 0.975)) * math.sqrt(2) * deviation


def _equals(p: float | None) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"
