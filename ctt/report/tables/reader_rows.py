"""Reading: the position reader's answers in a table, with the statistics of all others, beside what reading gives without a
world model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ctt.report.results import Predictions, RunResults, read
from ctt.report.tables.estimates import MetricEstimate, option_estimates, question_estimates
from ctt.report.tallies import Tallies, Tally

READ = ("predictive", "counterfactual")
PER_OPTION = "_per_option"


@dataclass(frozen=True)
class ReferenceLevel:
    """What the same reading gives of something that no run made, such as the true future."""

    label: str
    estimates: dict[str, MetricEstimate]


def reading_of(runs: Sequence[RunResults], tallies: Tallies, owner: str) -> dict[int, Tally]:
    """The reader's answers of a point's runs by seed: of those that were asked the same questions as the first one."""
    found: dict[int, Tally] = {}
    for run in runs:
        if run.reader is not None:
            tally = tallies.count(read(run.reader), f"the reader of {owner}, seed {run.seed}")
            if not found or tally.layout is next(iter(found.values())).layout:
                found[run.seed] = tally
    return found


def reader_estimates(mine: Mapping[int, Tally], base: Mapping[int, Tally] | None = None) -> dict[str, MetricEstimate]:
    """{"predictive", "counterfactual": per question; the same with _per_option}, as far as it was asked."""
    if not mine:
        return {}
    layout = next(iter(mine.values())).layout
    both = [(mine[seed], base[seed]) for seed in mine if seed in base] if base else []
    pairs = [(one, other) for one, other in both if one.layout is other.layout]
    asked = tuple(c for c in READ if layout.members(c).any())
    answers = list(mine.values())
    options = option_estimates(asked, answers, pairs)
    return question_estimates(asked, answers, pairs) | {f"{c}{PER_OPTION}": estimate for c, estimate in options.items()}


def levels(found: Mapping[str, Predictions], tallies: Tallies) -> tuple[ReferenceLevel, ...]:
    """The levels of a data set, in the order given."""
    return tuple(
        ReferenceLevel(label, reader_estimates({0: tallies.count(read(answers), f"the reader of {label}")}))
        for label, answers in found.items()
    )
