"""Words: numbers as text, and the sentence that says what a row shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

from scipy import special

from ctt.report.results import CATEGORIES
from ctt.report.tables.estimates import MetricEstimate
from ctt.report.tables.noise_row import NoiseRow
from ctt.report.tables.row import Row

DASH = "–"
MINUS = "−"
UNREACHED = "not reachable"
LEAST_P = 0.05

METRIC_NAMES = {
    "descriptive": "descriptive",
    "explanatory": "explanatory",
    "predictive": "predictive",
    "counterfactual": "counterfactual",
    "multiple_choice": "multiple choice",
    "average": "average",
}
STAGE_NAMES = {
    "world_model": "world model",
    "rollout": "rollout",
    "vqa": "ALOE",
    "diagnostics": "diagnostics",
    "reader": "position reader",
}
ERROR_NAMES = {"world_model": "world model", "rollout": "rollout"}
MARKS = {"screened": "answered by the baseline's ALOE, not by one of its own; ctt promote retrains the best ones"}
"""What the marks of rows mean."""


def number(value: float | None, digits: int = 1) -> str:
    """ "57.5", halves rounded away from 0, with a true minus; a dash for None."""
    if value is None:
        return DASH
    text = str(Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def signed(value: float | None, digits: int = 1) -> str:
    """ "+0.4", "−0.4" or "0.0"; a dash for None."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and float(text) > 0 else text


def p_value(p: float | None) -> str:
    """ "0.03", "< 0.001"; a dash for None."""
    if p is None:
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def count(number_of: int, noun: str) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{number_of} {noun}{'' if number_of == 1 else 's'}"


def seeds(numbers: Sequence[int]) -> str:
    """ "seed 4", "seeds 1, 2, 4"."""
    return f"seed{'' if len(numbers) == 1 else 's'} {', '.join(str(n) for n in numbers)}"


def named(row: Row) -> str:
    """A row's label with its marks: "inv_weight=0.2 (screened)"."""
    return f"{row.label} ({', '.join(row.marks)})" if row.marks else row.label


def sentence(row: Row) -> str:
    """What the row shows, in words: the differences that survive Holm, and what the rest could have shown."""
    if row.baseline:
        return "differences are to this row"
    if not row.seeds:
        return "nothing measured yet"
    if not row.paired:
        return "no run pairs with the baseline: nothing can be said about a difference"
    known = {c: row.estimates[c] for c in CATEGORIES if row.estimates[c].delta is not None}
    if not any(estimate.p is not None for estimate in known.values()):
        return f"{count(row.paired, 'seed')}: too few to tell a difference from chance, at least 3 are needed"
    found: list[tuple[str, MetricEstimate]] = []
    rest: list[tuple[str, MetricEstimate]] = []
    for category, estimate in known.items():
        (found if estimate.p_holm is not None and estimate.p_holm < LEAST_P else rest).append((category, estimate))
    parts = []
    for category, estimate in found:
        assert estimate.delta is not None and estimate.delta_low is not None
        way = "worse" if estimate.delta < 0 else "better"
        half = number(estimate.delta - estimate.delta_low)
        parts.append(
            f"{category} is {number(abs(estimate.delta))} ± {half} points {way} (Holm p {_equals(estimate.p_holm)})"
        )
    could = sorted(estimate.smallest for _, estimate in rest if estimate.smallest)
    if could:
        low, high = number(could[0]), number(could[-1])
        shown = low if low == high else f"{low} to {high}"
        where = " in the other categories" if found else ""
        parts.append(f"no evidence of a difference{where}: {count(row.paired, 'seed')} could have shown {shown} points")
    same = [category for category, estimate in rest if estimate.smallest == 0]
    if same:
        parts.append(f"{', '.join(same)}: as many right answers as the baseline in every video")
    unreached = [category for category in CATEGORIES if not row.estimates[category].reached]
    if unreached:
        parts.append(f"{', '.join(unreached)} cannot be reached by what was swept")
    return "; ".join(parts)


def noise_sentence(row: NoiseRow) -> str:
    """What ALOE's seed alone does, and how far two single runs lie apart by it 19 times in 20."""
    start = f"A/A: {row.label}, {count(row.runs, 'run')}"
    apart = [(category, two_runs_apart(row.deviation[category], row.freedom)) for category in CATEGORIES]
    known = [f"{category} {number(value)}" for category, value in apart if value is not None]
    if not known:
        return f"{start}: too few to say how large noise is"
    return f"{start}: by ALOE's seed alone two single runs differ by up to {', '.join(known)} points, 19 times in 20"


def two_runs_apart(deviation: float | None, freedom: int) -> float | None:
    """The difference that two runs with this standard deviation (of `freedom` degrees) stay under 19 times in 20."""
    if deviation is None or freedom < 1:
        return None
    return float(special.stdtrit(freedom, 0.975)) * math.sqrt(2) * deviation


def _equals(p: float | None) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"
