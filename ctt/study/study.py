"""Study: one recorded sweep for notebooks: its plan, table, curves and costs."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctt.config import Config
from ctt.core.errors import UsageError
from ctt.plan import Budget, Plan
from ctt.plan.costs import Costs
from ctt.report.results import Results
from ctt.report.tables.table import Table, build
from ctt.store import Store
from ctt.study import loading, record
from ctt.study.promotion import relabelled

if TYPE_CHECKING:
    from ctt.report.figures.curves import Curve


class Study:
    """The newest record of sweep `name` in a store (default: CTT_STORE). Each property is computed once, on first use."""

    def __init__(self, name: str, store: Path | str | None = None) -> None:
        root = Path(store or Config().store)
        if not root.is_dir():
            raise UsageError(f"no store at {root.resolve()}; set CTT_STORE, or run a sweep first")
        self.name = name
        self.store = Store.open(root)
        self.plan: Plan = record.load(record.newest(self.store, name))

    @classmethod
    def chosen(cls, default: str) -> Study:
        """The sweep that CTT_SWEEP names (set by `ctt report NAME --notebook`), else `default`."""
        return cls(os.environ.get("CTT_SWEEP", default))

    @classmethod
    def available(cls, *names: str, default: str) -> list[Study]:
        """The sweeps of `names` with a readable record in the store, else `default`; only CTT_SWEEP if it is another sweep.

        Raises UsageError if the sweep that CTT_SWEEP names has no readable record.
        """
        chosen = os.environ.get("CTT_SWEEP")
        if chosen is not None and chosen not in names:
            return [cls(chosen)]
        found = []
        for name in names:
            try:
                found.append(cls(name))
            except UsageError:
                if name == chosen:
                    raise
        return found or [cls(default)]

    @cached_property
    def results(self) -> Results:
        """The results of the finished runs."""
        return loading.results(self.plan, self.store)

    @cached_property
    def table(self) -> Table:
        """The comparison."""
        return build(self.results)

    @cached_property
    def promoted(self) -> Table:
        """The table of the points that `ctt promote` retrained, with the labels of this screened sweep."""
        plan = record.load(record.newest(self.store, f"{self.name}-promoted"))
        return relabelled(self.plan, plan, build(loading.results(plan, self.store)))

    @cached_property
    def curves(self) -> list[Curve]:
        """Metrics by epoch, one curve for each run."""
        return loading.curves(self.plan, self.store)

    @cached_property
    def reference_lines(self) -> dict[str, tuple[str, float]]:
        """Reference lines for the curves."""
        return loading.reference_lines(self.plan, self.store)

    @cached_property
    def diagnoses(self) -> dict[str, list[dict[str, Any]]]:
        """Measurements of the slot graphs, for each point a list over its seeds."""
        return loading.diagnoses(self.plan, self.store)

    @cached_property
    def costs(self) -> dict[str, Any]:
        """The numbers of `ctt plan --json`, from the timings of this store."""
        cached = [key for key in self.plan.stages if self.store.has(key)]
        return Budget(self.plan, cached, Costs(self.store.root)).numbers()
