"""Following a sweep: how far its stages are, read from the store alone, and a terminal that shows it with an ETA."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ctt.core.units import duration
from ctt.execution.jobs.spec import progress
from ctt.plan import Budget, Plan
from ctt.plan.costs import Costs
from ctt.stages.base import Stage
from ctt.store import Store

MAIN = ("data", "world_model", "rollout", "vqa")  # what a run's answers are made of
WIDE_RUN, WIDE_BAR, NARROW_BAR = 48, 12, 7
STALE_SECONDS = 90.0  # progress older than this is shown as waiting


@dataclasses.dataclass
class StageStatus:
    """Where one stage is: `state` is done, running, failed or waiting; `share` of it is done; `rate` in units a second."""

    state: str
    share: float = 0.0
    rate: float = 0.0
    unit: str = ""
    message: str = ""


def standing(store: Store, stage: Stage) -> StageStatus:
    """Reads one or two small files, whatever the size of the store."""
    if store.has(stage.key):
        return StageStatus("done", 1.0)
    failures = store.failures(stage.key)
    with contextlib.suppress(OSError, ValueError):
        seen = read_progress(store, stage.key)
        at_work = not failures or seen["updated"] > failures[-1]["time"]
        if at_work and time.time() - seen["updated"] < STALE_SECONDS:
            share = seen["done"] / max(seen["total"], 1e-9)
            return StageStatus("running", min(share, 1.0), seen["rate"], seen["unit"])
    if failures and failures[-1]["failure"] != "interrupted":  # it was asked to stop: it goes on from its checkpoint
        return StageStatus("failed", message=f"{failures[-1]['failure']}: {failures[-1]['message']}")
    return StageStatus("waiting")


def read_progress(store: Store, key: str) -> dict[str, Any]:
    """The last progress report of unfinished work. Raises OSError or ValueError where there is none."""
    folder = store.unfinished(key)
    if folder is None:
        raise FileNotFoundError(f"no work on {key}")
    return progress(folder)


class Follower:
    """Prints how far a plan is until it is closed: a live table on a terminal, a line now and then elsewhere."""

    def __init__(self, plan: Plan, store: Store, console: Console, jobs: int | None, line_every: float = 20.0) -> None:
        self.plan, self.store, self.console = plan, store, console
        self.jobs = jobs or max(1, len(plan.jobs))
        self.line_every = line_every
        self.budget = Budget(plan, (), Costs(store.root))
        self.began = time.time()
        self._first: float | None = None
        self._done: set[str] = set()

    def look(self) -> tuple[dict[str, StageStatus], float]:
        """Standings by key, and the share of the work that is done, by what stages cost."""
        standings = {}
        for key, stage in self.plan.stages.items():
            if key in self._done:
                standings[key] = StageStatus("done", 1.0)
                continue
            standings[key] = standing(self.store, stage)
            if standings[key].state == "done":
                self._done.add(key)
        total = self.budget.total
        done = sum(self.budget.seconds[key] * s.share for key, s in standings.items())
        return standings, done / total if total else 1.0

    def left(self, standings: dict[str, StageStatus]) -> float | None:
        """Seconds to the end, None until it is measured how fast this is: what is estimated to be left for `jobs` devices,
        as much longer or shorter as what has been done since the beginning took than it was estimated to take."""
        estimate = self.budget.makespan(self.jobs, {key: s.share for key, s in standings.items()})
        if self._first is None:
            self._first = estimate
        gained = self._first - estimate
        return estimate * (time.time() - self.began) / gained if gained > 0.03 * self._first else None

    def _eta(self, standings: dict[str, StageStatus]) -> str:
        left = self.left(standings)
        return f"ETA {duration(left)}" if left else ""

    def line(self) -> Text:
        standings, share = self.look()
        counts = []
        for kind in self.plan.kinds:
            keys = [k for k, s in self.plan.stages.items() if s.kind == kind]
            counts.append(f"{kind} {sum(standings[k].state == 'done' for k in keys)}/{len(keys)}")
        running = sum(s.state == "running" for s in standings.values())
        failed = sum(s.state == "failed" for s in standings.values())
        text = f"{duration(time.time() - self.began)}  {share:4.0%}  {', '.join(counts)}  {running} running"
        if failed:
            text += f", {failed} failed"
        return Text(f"{text}  {self._eta(standings)}".rstrip())

    def table(self) -> Table:
        """Runs × stages with bars; on a narrow terminal what stands beside a run's answers shares a column."""
        standings, share = self.look()
        title = f"{self.plan.sweep.name}: {share:.0%}"
        if share < 1:
            title += f" after {duration(time.time() - self.began)}, {self._eta(standings)}".removesuffix(", ")
        columns = {kind.replace("_", " "): [kind] for kind in self.plan.kinds}
        width = WIDE_BAR
        if self.console.width < WIDE_RUN + (WIDE_BAR + 3) * len(columns):
            width = NARROW_BAR
            columns = {kind.replace("_", " "): [kind] for kind in self.plan.kinds if kind in MAIN}
            if beside := [kind for kind in self.plan.kinds if kind not in MAIN]:
                columns["beside"] = beside
        table = Table(title=title)
        table.add_column("run", max_width=WIDE_RUN, overflow="fold")
        for name in columns:
            table.add_column(name, width=width)
        rows: list[tuple[str, list[list[Stage]]]] = []

        def row(name: str, stages: Sequence[Stage]) -> None:
            last = {stage.kind: stage for stage in stages}
            rows.append((name, [[last[kind] for kind in kinds if kind in last] for kinds in columns.values()]))

        for state in self.plan.prefixes.values():
            row(f"shared prefix, {state.epoch} epochs seed={state.seed}", [state.data, state])
        for run, target, auxiliaries in zip(
            self.plan.sweep.runs, self.plan.targets, self.plan.auxiliaries, strict=True
        ):
            read = (stage for auxiliary in auxiliaries for stage in auxiliary.inputs().values())
            row(
                run.name, [*read, target.rollout.state.data, target.rollout.state, target.rollout, target, *auxiliaries]
            )
        order = {"running": 0, "failed": 1, "waiting": 2, "done": 3}
        if len(rows) > 24:  # a long sweep: what moves comes first, the rest is counted
            rows.sort(key=lambda r: min(order[standings[s.key].state] for cell in r[1] for s in cell))
            table.caption = f"and {len(rows) - 24} more"
            rows = rows[:24]
        for name, stages in rows:
            table.add_row(Text(name), *(_cell([standings[s.key] for s in cell], width) for cell in stages))
        return table

    @contextlib.contextmanager
    def follow(self) -> Iterator[None]:
        stop = threading.Event()
        self.left(self.look()[0])  # where this begins, so that later looks can tell how fast it is
        if self.console.is_terminal:
            live = Live(self.table(), console=self.console, refresh_per_second=1, transient=True)

            def show() -> None:
                pause = 1.0
                while not stop.wait(pause):
                    began = time.monotonic()
                    live.update(self.table())
                    pause = max(1.0, 20 * (time.monotonic() - began))  # a twentieth of a core, however long the sweep

            manager: Any = live
        else:
            manager = contextlib.nullcontext()

            def show() -> None:
                while not stop.wait(self.line_every):
                    self.console.print(self.line(), soft_wrap=True)

        with manager:
            thread = threading.Thread(target=show, name="ctt-follow", daemon=True)
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join()
        self.console.print(self.line(), soft_wrap=True)


def _cell(standings: Sequence[StageStatus], width: int) -> Any:
    """What some stages of a row show together: the worst of them, or how far they are."""
    states = {standing.state for standing in standings}
    if "failed" in states:
        return Text("failed", style="red")
    if states <= {"done"}:
        return Text("done" if states else "", style="green")
    if states == {"waiting"}:
        return Text("waiting", style="dim")
    return ProgressBar(total=float(len(standings)), completed=sum(s.share for s in standings), width=width)
