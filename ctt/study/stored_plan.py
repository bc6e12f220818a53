"""StoredPlan: a sweep's plan where a store holds some of it: what would run, and what that costs."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from rich.console import Console

from ctt.core.terminal_console import terminal
from ctt.planning import Budget, Plan, compile_plan
from ctt.planning.costs import Costs
from ctt.planning.planned_jobs import PlannedJob
from ctt.planning.tree import print_plan
from ctt.planning.why import print_why
from ctt.stages.base import Stage
from ctt.store import Store
from ctt.sweep import Sweep, compile_sweep


class StoredPlan:
    """The plan of a sweep over a store. `print` shows what `ctt plan` shows.

    >>> plan = ctt.plan("demo", ["seed=0,1"])
    >>> plan.cost().left / 3600, len(plan.cached), len(plan.stages)
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store

    @property
    def sweep(self) -> Sweep:
        """The sweep: its points and runs."""
        return self.plan.sweep

    @property
    def stages(self) -> dict[str, Stage]:
        """Every unique stage by key, inputs before those that read them."""
        return self.plan.stages

    @property
    def jobs(self) -> tuple[PlannedJob, ...]:
        """Every job after those it needs."""
        return self.plan.jobs

    @cached_property
    def cached(self) -> tuple[str, ...]:
        """Keys of the stages that the store held when this was first asked."""
        return tuple(key for key in self.stages if self.store.has(key))

    def cost(self) -> Budget:
        """What the plan costs: device-seconds (`total`, `left`, `naive`, `saving`), bytes (`disk`), and seconds of wall time on
        n devices (`makespan(n)`), by the store's timings, or by published ones where it has none."""
        return Budget(self.plan, self.cached, Costs(self.store.root))

    def why(self, run: str) -> str:
        """Why the run of that name consists of the stages it does. Raises UsageError if there is no such run."""
        return _captured(lambda console: print_why(self.plan, run, set(self.cached), console))

    def text(self, devices: int = 1, width: int = 100) -> str:
        """What `ctt plan` prints, for that many devices."""
        return _captured(lambda console: self.print(devices, console), width)

    def print(self, devices: int, console: Console | None = None, detect: float | None = None) -> None:
        """Prints the plan and what its differences could show; detect: also how many seeds detect so many points."""
        from ctt.study.detectable_plan import detection, lines  # imports pandas

        console = console or terminal()
        print_plan(self.cost(), self.store, devices, console)
        for line in lines(detection(self.plan, self.store), detect):
            console.print(line, soft_wrap=True, highlight=False)

    def __str__(self) -> str:
        return self.text()


def plan(sweep: Sweep | str | os.PathLike[str], overrides: Sequence[str] = (), *, store: Path | str | None = None) -> StoredPlan:
    """The plan of a sweep: one that `ctt.compile_sweep` made, or the name or file of one with overrides as on the command line.

    store: a folder, which is made if need be; None: the setting `store` (from the overrides, else CTT_STORE, else ./store).
    Raises SweepError or SettingError, naming file and key.

    >>> plan = ctt.plan("sweeps/demo.yaml", ["seed=0,1"], store="store")
    >>> print(plan)
    >>> plan.cost().left  # device-seconds of what the store lacks
    """
    if not isinstance(sweep, Sweep):
        sweep = compile_sweep(os.fspath(sweep), overrides)
    return StoredPlan(compile_plan(sweep), Store.open(store or sweep.baseline.config.store))


def _captured(show: Callable[[Console], None], width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip()
