"""Study: one recorded sweep as notebooks read it: its plan, its table, its curves, what it cost."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

from ctt.config import Config
from ctt.core.errors import UsageError
from ctt.plan import Budget, Plan
from ctt.plan.costs import Costs
from ctt.report.figures.curves import Curve
from ctt.report.results import Results
from ctt.report.tables.table import Table, build
from ctt.store import Store
from ctt.study import loading, record
from ctt.study.promotion import named_alike


class Study:
    """The newest record of sweep `name` in a store (default: CTT_STORE). Reads when asked, and once."""

    def __init__(self, name: str, store: Path | str | None = None) -> None:
        root = Path(store or Config().store)
        if not root.is_dir():
            raise UsageError(f"no store at {root.resolve()}; name it by CTT_STORE, or run a sweep first")
        self.name = name
        self.store = Store.open(root)
        self.plan: Plan = record.load(record.newest(self.store, name))

    @classmethod
    def chosen(cls, default: str) -> Study:
        """The sweep that CTT_SWEEP names (`ctt report NAME --notebook` sets it), else `default`."""
        return cls(os.environ.get("CTT_SWEEP", default))

    @classmethod
    def together(cls, *names: str, otherwise: str) -> list[Study]:
        """Those of the sweeps `names` that the store has, else `otherwise`. If CTT_SWEEP names another one, that alone; one
        that was not asked for by name is left out where its record can't be read any more."""
        asked = os.environ.get("CTT_SWEEP")
        if asked is not None and asked not in names:
            return [cls(asked)]
        found = []
        for name in names:
            try:
                found.append(cls(name))
            except UsageError:
                if name == asked:
                    raise
        return found or [cls(otherwise)]

    @cached_property
    def results(self) -> Results:
        """What the runs that are there have measured."""
        return loading.results(self.plan, self.store)

    @cached_property
    def table(self) -> Table:
        """The comparison."""
        return build(self.results)

    @cached_property
    def promoted(self) -> Table:
        """What `ctt promote` has retrained of this screened sweep, its points named as they are here."""
        plan = record.load(record.newest(self.store, f"{self.name}-promoted"))
        return named_alike(self.plan, plan, build(loading.results(plan, self.store)))

    @cached_property
    def curves(self) -> list[Curve]:
        """Metrics by epoch, a curve a run."""
        return loading.curves(self.plan, self.store)

    @cached_property
    def levels(self) -> dict[str, tuple[str, float]]:
        """Reference lines for the curves."""
        return loading.levels(self.plan, self.store)

    @cached_property
    def diagnoses(self) -> dict[str, list[dict[str, Any]]]:
        """What was measured of the slot graphs, a list over the seeds for each point."""
        return loading.diagnoses(self.plan, self.store)

    @cached_property
    def costs(self) -> dict[str, Any]:
        """The numbers of `ctt plan --json`, by the timings of this store."""
        cached = [key for key in self.plan.stages if self.store.has(key)]
        return Budget(self.plan, cached, Costs(self.store.root)).numbers()
