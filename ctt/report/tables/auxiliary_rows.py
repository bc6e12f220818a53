"""The columns of auxiliary stages, with the statistics of all others, and reference levels without a world model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ctt.report.results import Predictions, RunResults, read
from ctt.report.tables.estimates import MetricEstimate, number_estimate, option_estimates, question_estimates
from ctt.report.tallies import Tallies, Tally
from ctt.stages.columns import PER_OPTION, AuxiliaryColumns, Column


@dataclass(frozen=True)
class ReferenceLevel:
    """The accuracies of the auxiliary stage `kind` on something that no run predicted, such as the true future."""

    label: str
    estimates: dict[str, MetricEstimate]
    kind: str


@dataclass
class AuxiliaryTallies:
    """What auxiliary stages found of a point's runs: tallies of answers by kind and seed, and the runs with their numbers."""

    runs: Sequence[RunResults] = ()
    answers: dict[str, dict[int, Tally]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, stages: Sequence[AuxiliaryColumns], runs: Sequence[RunResults], tallies: Mapping[str, Tallies], owner: str
    ) -> AuxiliaryTallies:
        """Those of a point's runs; of answers those with the questions of the first run."""
        found = cls(runs)
        for stage in stages:
            for run in runs:
                if (answers := run.answered.get(stage.kind)) is None:
                    continue
                tally = tallies[stage.kind].count(read(answers), f"the {stage.label} of {owner}, seed {run.seed}")
                known = found.answers.setdefault(stage.kind, {})
                if not known or tally.layout is next(iter(known.values())).layout:
                    known[run.seed] = tally
        return found

    def estimates(self, stage: AuxiliaryColumns, base: AuxiliaryTallies | None) -> dict[str, MetricEstimate]:
        """The estimates of a stage's columns, by name, of those that are known."""
        theirs = {} if base is None else base.answers.get(stage.kind, {})
        answers = answer_estimates(stage.columns, self.answers.get(stage.kind, {}), theirs)
        numbers = {}
        for column in stage.columns:
            mine = self._numbers(stage.kind, column.name)
            if not column.answers and mine:
                numbers[column.name] = number_estimate(mine, None if base is None else base._numbers(stage.kind, column.name))
        both = answers | numbers
        return {column.name: both[column.name] for column in stage.columns if column.name in both}

    def _numbers(self, kind: str, name: str) -> dict[int, float]:
        return {run.seed: run.measured[kind][name] for run in self.runs if name in run.measured.get(kind, {})}


def answer_estimates(
    columns: Sequence[Column], mine: Mapping[int, Tally], base: Mapping[int, Tally] | None = None
) -> dict[str, MetricEstimate]:
    """Estimates of the columns that are counted from answers, of categories with questions."""
    if not mine:
        return {}
    layout = next(iter(mine.values())).layout
    both = [(mine[seed], base[seed]) for seed in mine if seed in base] if base else []
    pairs = [(one, other) for one, other in both if one.layout is other.layout]
    names = [column.name for column in columns if column.answers and layout.members(column.name.removesuffix(PER_OPTION)).any()]
    questions = tuple(name for name in names if not name.endswith(PER_OPTION))
    options = tuple(name.removesuffix(PER_OPTION) for name in names if name.endswith(PER_OPTION))
    tallies, found = list(mine.values()), dict[str, MetricEstimate]()
    if questions:
        found |= question_estimates(questions, tallies, pairs)
    if options:
        found |= {f"{name}{PER_OPTION}": estimate for name, estimate in option_estimates(options, tallies, pairs).items()}
    return found


def reference_levels(
    stages: Sequence[AuxiliaryColumns], found: Mapping[str, Mapping[str, Predictions]], tallies: Mapping[str, Tallies]
) -> tuple[ReferenceLevel, ...]:
    """The reference levels of the stages, in the order given."""
    levels = []
    for stage in stages:
        for label, answers in found.get(stage.kind, {}).items():
            tally = tallies[stage.kind].count(read(answers), f"the {stage.label} of {label}")
            levels.append(ReferenceLevel(label, answer_estimates(stage.columns, {0: tally}), stage.kind))
    return tuple(levels)
