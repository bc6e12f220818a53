"""Published numbers, shown next to ours: validation split, percent of questions, one run each, no published intervals.

Sources: README and RESULTS.md of GerardCB/cjepa (ALOE epoch 79 of a 400-epoch schedule; the differences as printed
there, computed from unrounded numbers); C-JEPA, arXiv 2602.11389, Table A2 (VideoSAUR slots, ALOE trained for 400 epochs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ctt.core.errors import UsageError

README = "CLEVRER validation, GerardCB/cjepa (CTT: weights 0.2, 0.1, threshold 0.15, start 10; ALOE epoch 79; 1 run)"
PAPER = "CLEVRER validation, C-JEPA, arXiv 2602.11389, Table A2 (VideoSAUR slots, M masked; 1 run)"


@dataclass(frozen=True)
class Quoted:
    """A published row: metrics in percent and differences in points, by category; unpublished ones are absent.

    errors: of all slots, as the published code averages over them.
    """

    name: str
    label: str
    source: str
    metrics: dict[str, float]
    deltas: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)


def _paper(masked: int, descriptive: float, explanatory: float, predictive: float, cf: float, average: float) -> Quoted:
    label = f"C-JEPA M={masked}"
    metrics = dict(descriptive=descriptive, explanatory=explanatory, predictive=predictive, counterfactual=cf, average=average)
    return Quoted(f"paper_m{masked}", label, PAPER, metrics)


QUOTED = {
    row.name: row
    for row in (
        Quoted(
            "reported_baseline",
            "cjepa README, baseline",
            README,
            dict(
                descriptive=91.369,
                explanatory=84.943,
                predictive=80.096,
                counterfactual=57.463,
                multiple_choice=72.14,
            ),
            errors=dict(world_model_all=0.0147),
        ),
        Quoted(
            "reported_ctt",
            "cjepa README, CTT",
            README,
            dict(
                descriptive=89.787,
                explanatory=80.961,
                predictive=77.903,
                counterfactual=49.384,
                multiple_choice=66.667,
            ),
            dict(descriptive=-1.6, explanatory=-3.9, predictive=-2.2, counterfactual=-8.1, multiple_choice=-5.4),
            dict(world_model_all=0.0150),
        ),
        _paper(0, 89.59, 80.58, 75.04, 47.68, 82.79),
        _paper(1, 90.39, 82.22, 78.58, 49.67, 83.95),
        _paper(2, 91.02, 82.54, 79.56, 50.25, 84.56),
        _paper(3, 91.98, 87.30, 83.86, 63.60, 87.61),
        _paper(4, 92.84, 90.74, 86.93, 68.81, 89.40),
    )
}

GROUPS = {
    "reported": ("reported_baseline", "reported_ctt"),
    "paper": tuple(f"paper_m{masked}" for masked in range(5)),
}
"""Names of several rows at once."""


def quoted(names: Sequence[str]) -> list[Quoted]:
    """The rows with these names (of QUOTED or GROUPS), each once. Raises UsageError for an unknown name."""
    rows: dict[str, Quoted] = {}
    for name in names:
        for member in GROUPS.get(name, (name,)):
            if member not in QUOTED:
                raise UsageError(f"no published row is called {name!r}; known are {', '.join([*GROUPS, *QUOTED])}")
            rows[member] = QUOTED[member]
    return list(rows.values())
