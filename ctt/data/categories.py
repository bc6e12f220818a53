"""Categories of questions: what a data set asks, and how its answers are counted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ctt.core.errors import DataError

POOLED = ("multiple_choice", "average")
"""Metrics over several categories; no category is called that."""
MULTIPLE_CHOICE, AVERAGE = POOLED
RESERVED = (*POOLED, "world_model", "rollout")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Category:
    """A kind of question. choices: it has options, each correct or wrong; otherwise its answer is one of the vocabulary.
    future: it is about what follows the given frames, so that ALOE sees predicted ones. Raises DataError for its name."""

    name: str
    choices: bool = True
    future: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in RESERVED or self.name.endswith("_per_option"):
            reserved = f"{', '.join(RESERVED)} and names that end in _per_option are taken"
            raise DataError(f"categories: {self.name!r} cannot be the name of a category: use a-z, 0-9 and _; {reserved}")


@dataclass(frozen=True)
class Categories:
    """The categories of a data set in their order; none if it has no questions. Raises DataError if one is there twice."""

    all: tuple[Category, ...] = ()

    def __post_init__(self) -> None:
        for name in self.names:
            if self.names.count(name) > 1:
                raise DataError(f"categories: {name} is there twice")

    def __iter__(self) -> Iterator[Category]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(category.name for category in self.all)

    @cached_property
    def with_choices(self) -> tuple[str, ...]:
        """Names of the categories whose questions have options."""
        return tuple(category.name for category in self.all if category.choices)

    @cached_property
    def pooled(self) -> tuple[str, ...]:
        """The pooled metrics that differ from every single category."""
        return POOLED[0 if len(self.with_choices) > 1 else 1 :] if self.all else ()

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The accuracies of a run: of each category, then the pooled ones."""
        return (*self.names, *self.pooled)

    @cached_property
    def option_metrics(self) -> tuple[str, ...]:
        """Those that can be counted per option too."""
        return (*self.with_choices, *self.pooled[:-1])

    def members(self, metric: str) -> tuple[str, ...]:
        """The categories that a metric counts."""
        return {MULTIPLE_CHOICE: self.with_choices, AVERAGE: self.names}.get(metric, (metric,))


def single(metrics: Sequence[str]) -> list[str]:
    """The metrics that are one category, in their order."""
    return [metric for metric in metrics if metric not in POOLED]


NO_QUESTIONS = Categories()
CLEVRER_CATEGORIES = Categories(
    (
        Category("descriptive", choices=False),
        Category("explanatory"),
        Category("predictive", future=True),
        Category("counterfactual"),
    )
)
