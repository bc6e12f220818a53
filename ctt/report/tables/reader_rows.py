"""The position reader's accuracies, with the statistics of all others, and reference levels without a world model."""

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
    """The position reader's accuracies on something that no run predicted, such as the true future."""

    label: str
    estimates: dict[str, MetricEstimate]


def reader_tallies(runs: Sequence[RunResults], tallies: Tallies, owner: str) -> dict[int, Tally]:
    """The position reader's tallies of a point's runs by seed, of those with the questions of the first one."""
    found: dict[int, Tally] = {}
    for run in runs:
        if run.reader is not None:
            tally = tallies.count(read(run.reader), f"the position reader of {owner}, seed {run.seed}")
            if not found or tally.layout is next(iter(found.values())).layout:
                found[run.seed] = tally
    return found


def reader_estimates(mine: Mapping[int, Tally], base: Mapping[int, Tally] | None = None) -> dict[str, MetricEstimate]:
    """{"predictive", "counterfactual": per question; the same with _per_option}, of categories with questions."""
    if not mine:
        return {}
    layout = next(iter(mine.values())).layout
    both = [(mine[seed], base[seed]) for seed in mine if seed in base] if base else []
    pairs = [(one, other) for one, other in both if one.layout is other.layout]
    categories = tuple(c for c in READ if layout.members(c).any())
    tallies = list(mine.values())
    options = option_estimates(categories, tallies, pairs)
    return question_estimates(categories, tallies, pairs) | {f"{c}{PER_OPTION}": estimate for c, estimate in options.items()}


def reference_levels(found: Mapping[str, Predictions], tallies: Tallies) -> tuple[ReferenceLevel, ...]:
    """The reference levels of a data set, in the order given."""
    return tuple(
        ReferenceLevel(label, reader_estimates({0: tallies.count(read(answers), f"the position reader of {label}")}))
        for label, answers in found.items()
    )
