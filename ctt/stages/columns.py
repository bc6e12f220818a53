"""Columns: the numbers that an auxiliary stage adds to tables and to a run's page in MLflow."""

from __future__ import annotations

from dataclasses import dataclass

from ctt.core.errors import UsageError

PER_OPTION = "_per_option"
"""Ends the name of a column that counts options instead of questions."""
BETTER = ("higher", "lower", "")


@dataclass(frozen=True)
class Column:
    """One number of each run, with its interval over the seeds and its difference to the baseline's run of the same seed.

    name: where the number is in the stage's metrics.json (a path joined by "/"), and what it is called in JSON, CSV and MLflow.
    title: in tables, by default the name; unit: "" for none; better: "higher", "lower", or "" where neither is;
    digits: decimals in tables. shown: whether tables have it, in addition to JSON and CSV.
    level: the column that this is a level for, what the run's number there is compared with: tables have it below the points, in
    a row called by its title, and it is not tested.
    answers: counted from answers to questions instead, as ALOE's are: name is then a category, or one with `_per_option`,
    the unit percent, and both seeds and videos are random (ctt/report/statistics.py).
    Raises UsageError if `better` is none of these.
    """

    name: str
    title: str = ""
    unit: str = ""
    better: str = ""
    digits: int = 4
    shown: bool = True
    answers: bool = False
    level: str = ""

    def __post_init__(self) -> None:
        if self.better not in BETTER:
            raise UsageError(f"column {self.name}: better must be higher, lower or empty; got {self.better!r}")

    @property
    def heading(self) -> str:
        return self.title or self.name.replace("_", " ").replace("/", " ")

    @property
    def detail(self) -> str:
        """ "px, lower is better": the unit and the direction, as far as there are any."""
        return ", ".join(text for text in (self.unit, self.better and f"{self.better} is better") if text)


@dataclass(frozen=True)
class AuxiliaryColumns:
    """What tables know of an auxiliary stage. title: of its table, by default its label; then each column has its detail."""

    kind: str
    label: str
    columns: tuple[Column, ...] = ()
    title: str = ""

    @property
    def tested(self) -> tuple[Column, ...]:
        """The columns that are tested, as one family: all but levels, and those that count the same answers by option."""
        return tuple(column for column in self.columns if not (column.level or column.name.endswith(PER_OPTION)))
