"""Following a sweep: how far its stages are, read from the store alone, shown on a terminal with the time left."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ctt.core.plain_text import shortened
from ctt.core.units import duration
from ctt.execution.jobs.failures import reason
from ctt.execution.jobs.spec import progress
from ctt.planning import KINDS, Budget, Plan
from ctt.planning.costs import Costs, Source
from ctt.stages.base import Stage
from ctt.store import Store

WIDE_RUN, LEAST_RUN, WIDE_BAR, NARROW_BAR = 48, 12, 12, 7  # characters
MOST_ROWS = 24
AUXILIARY = "auxiliary"
STATES = ("running", "failed", "waiting", "done")
"""Of stages, in the order in which their runs are shown."""
Row = tuple[str, list[list[Stage]]]
UNFINISHED = 0.99
"""The largest share of a stage that is not in the store yet."""
STALE_SECONDS = 90.0  # progress older than this is shown as waiting


@dataclasses.dataclass
class StageStatus:
    """`state`: done, running, failed or waiting; `share` of the stage that is done; `rate` in units per second."""

    state: str
    share: float = 0.0
    rate: float = 0.0
    unit: str = ""
    message: str = ""


def stage_status(store: Store, stage: Stage, due: Collection[str] = ()) -> StageStatus:
    """How far a stage is. Reads one or two small files, whatever the size of the store. What an attempt has done counts after its
    end, too. due: the keys that a launcher will still build, whatever has failed before."""
    if store.has(stage.key):
        return StageStatus("done", 1.0)
    failures, share = store.failures(stage.key), 0.0
    with contextlib.suppress(OSError, ValueError):
        seen = read_progress(store, stage.key)
        share = min(max(seen["done"] / max(seen["total"], 1e-9), seen.get("furthest", 0.0)), UNFINISHED)
        at_work = not failures or seen["updated"] > failures[-1]["time"]
        if at_work and time.time() - seen["updated"] < STALE_SECONDS:
            return StageStatus("running", share, seen["rate"], seen["unit"], seen.get("warning", ""))
    if failures and failures[-1]["failure"] != "interrupted":  # an interrupted stage continues from its checkpoint
        message = reason(failures[-1]["failure"], failures[-1]["message"])
        return StageStatus("waiting" if stage.key in due else "failed", share, message=message)
    return StageStatus("waiting", share)


def read_progress(store: Store, key: str) -> dict[str, Any]:
    """The last progress report of an unfinished stage. Raises OSError or ValueError where there is none."""
    folder = store.unfinished(key)
    if folder is None:
        raise FileNotFoundError(f"no unfinished work on {key}")
    return progress(folder)


class Follower:
    """Prints how far a plan is: a live table on a terminal, elsewhere a line every `line_every` seconds."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        console: Console,
        jobs: int | None,
        line_every: float = 20.0,
        weights: Mapping[str, float] | None = None,
        due: Callable[[], Collection[str]] = lambda: (),
    ) -> None:
        """weights: seconds by key, by which the share of the work is counted; None: the present estimates. due: see
        `stage_status`."""
        self.plan, self.store, self.console, self.due = plan, store, console, due
        self.jobs = jobs or max(1, len(plan.jobs))
        self.line_every = line_every
        self.budget = Budget(plan, (), Costs(store.root))
        self.weights = weights or self.budget.seconds
        self.began = time.time()
        self._first: float | None = None
        self._done: set[str] = set()
        self._shares: dict[str, float] = {}

    def look(self) -> tuple[dict[str, StageStatus], float]:
        """Statuses by key, and the share of the work that is done, weighted by what stages cost."""
        statuses, due = {}, self.due()
        for key, stage in self.plan.stages.items():
            if key in self._done:
                statuses[key] = StageStatus("done", 1.0)
                continue
            status = statuses[key] = stage_status(self.store, stage, due)
            status.share = self._shares[key] = max(status.share, self._shares.get(key, 0.0))
            if status.state == "done":
                self._done.add(key)
        total = sum(self.weights.get(key, 0.0) for key in statuses)
        done = sum(self.weights.get(key, 0.0) * s.share for key, s in statuses.items())
        return statuses, done / total if total else 1.0

    def left(self, statuses: dict[str, StageStatus]) -> float | None:
        """Seconds to the end with `jobs` devices; None until speed has been measured.

        The estimate of what is left, times the ratio of measured to estimated time of what was done since the first look. Until
        that is known, the estimate itself, if all of it comes from the store's timings.
        """
        estimate = self.budget.makespan(self.jobs, {key: s.share for key, s in statuses.items()})
        if self._first is None:
            self._first = estimate
        gained = self._first - estimate
        if gained > 0.03 * self._first:
            return estimate * (time.time() - self.began) / gained
        return estimate if self._all_measured(statuses) else None

    def _all_measured(self, statuses: dict[str, StageStatus]) -> bool:
        """Whether the store has timings of everything that is left."""
        left = [stage for stage in self.plan.stages.values() if stage.key not in statuses or statuses[stage.key].share < 1]
        return all(self.budget.costs.of(stage, self.plan.start_of(stage)).source is Source.MEASURED for stage in left)

    def _eta(self, statuses: dict[str, StageStatus]) -> str:
        left = self.left(statuses)
        return f"ETA {duration(left)}" if left else ""

    def line(self) -> Text:
        """Time, share, finished stages of each kind, running and failed ones, and the time left."""
        statuses, share = self.look()
        counts = []
        for kind in self.plan.kinds:
            keys = [k for k, s in self.plan.stages.items() if s.kind == kind]
            counts.append(f"{self.plan.labels[kind]} {sum(statuses[k].state == 'done' for k in keys)}/{len(keys)}")
        running = sum(s.state == "running" for s in statuses.values())
        failed = sum(s.state == "failed" for s in statuses.values())
        text = f"{duration(time.time() - self.began)}  {share:4.0%}  {', '.join(counts)}  {running or 'no stage'} running"
        if failed:
            text += f", {failed} failed"
        return Text(f"{text}  {self._eta(statuses)}".rstrip())

    def table(self, states: Collection[str] = STATES, most: int | None = MOST_ROWS) -> Table:
        """Runs × kinds of stages with bars, a line a run; on a narrow terminal the auxiliary stages share a column. Only runs with
        a stage in one of `states`, at most `most`: the running ones first, then the failed ones; the others are counted."""
        statuses, share = self.look()
        title = f"{self.plan.sweep.name}: {share:.0%}"
        if share < 1:
            title += f" after {duration(time.time() - self.began)}, {self._eta(statuses)}".removesuffix(", ")
        columns, width = self._columns()
        table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        widths = {name: max(width, len(AUXILIARY)) if name == AUXILIARY else width for name in columns}
        run_width = max(LEAST_RUN, self.console.width - sum(widths.values()) - 2 * len(widths) - 3)
        table.add_column("run", no_wrap=True)
        for name in columns:
            table.add_column(name, width=widths[name])
        rows = [
            row
            for row in self._rows(list(columns.values()))
            if any(statuses[s.key].state in states for stages in row[1] for s in stages)
        ]
        if most is not None and len(rows) > most:
            rows.sort(key=lambda row: min(STATES.index(statuses[s.key].state) for stages in row[1] for s in stages))
            table.caption = f"and {len(rows) - most:,} more"
        for name, grouped in rows[:most]:
            table.add_row(Text(shortened(name, run_width)), *(_bar([statuses[s.key] for s in stages], width) for stages in grouped))
        return table

    def _columns(self) -> tuple[dict[str, list[str]], int]:
        """The kinds of stages in each column, by its title, and the width of the columns."""
        columns = {label: [kind] for kind, label in self.plan.labels.items()}
        if self.console.width >= WIDE_RUN + (WIDE_BAR + 3) * len(columns):
            return columns, WIDE_BAR
        columns = {label: [kind] for kind, label in self.plan.labels.items() if kind in KINDS}
        width = max(NARROW_BAR, *(len(word) for label in columns for word in label.split()))
        if auxiliary := [kind for kind in self.plan.kinds if kind not in KINDS]:
            columns[AUXILIARY] = auxiliary
        return columns, width

    def _rows(self, columns: Sequence[Sequence[str]]) -> list[Row]:
        """Every shared prefix and run, with its stages grouped by column."""
        chains: list[tuple[str, list[Stage]]] = [
            (f"shared prefix, {state.epoch} epochs seed={state.seed}", [state.data, state]) for state in self.plan.prefixes.values()
        ]
        for run, line, auxiliaries in zip(self.plan.sweep.runs, self.plan.lines, self.plan.auxiliaries, strict=True):
            chains.append((run.name, [line.data, *line.with_inputs(auxiliaries)]))
        rows = []
        for name, stages in chains:
            last = {stage.kind: stage for stage in stages}
            rows.append((name, [[last[kind] for kind in kinds if kind in last] for kinds in columns]))
        return rows

    @contextlib.contextmanager
    def follow(self) -> Iterator[None]:
        """Prints while the body runs, and a last line after it."""
        stop = threading.Event()
        self.left(self.look()[0])  # later looks measure speed from here
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


def _bar(statuses: Sequence[StageStatus], width: int) -> Any:
    """The worst state of some stages, or a bar while any is running."""
    states = {status.state for status in statuses}
    if "failed" in states:
        return Text("failed", style="red")
    if states <= {"done"}:
        return Text("done" if states else "", style="green")
    if states == {"waiting"}:
        return Text("waiting", style="dim")
    return ProgressBar(total=float(len(statuses)), completed=sum(s.share for s in statuses), width=width)
