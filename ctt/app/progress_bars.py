"""Progress bars with the time left: for stages that are built in this process, and for files that are read."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
)

from ctt.app.progress import read_progress
from ctt.core.time_left import TimeLeft
from ctt.core.units import duration, size
from ctt.planning.costs import Costs, Source
from ctt.stages.base import Stage
from ctt.store import Store


class Bars:
    """A bar for each stage that is built, from its progress file; lines where there is no terminal."""

    def __init__(self, store: Store, console: Console) -> None:
        self.store, self.console = store, console
        columns = (
            TextColumn("{task.description:14}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[left]}"),
        )
        self.costs = Costs(store.root)
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.stop = threading.Event()
        self.now: tuple[Stage, TaskID, TimeLeft] | None = None
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Bars:
        self.progress.start()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()
        self.progress.stop()

    def event(self, what: str, stage: Stage, detail: str) -> None:
        """To be called as `on_event` of a build: `what` is building, built, cached or waiting."""
        if what == "building":
            cost = self.costs.of(stage, None)
            left = TimeLeft(cost.seconds if cost.source is Source.MEASURED else None)
            self.now = (stage, self.progress.add_task(stage.kind, total=1.0, rate="", left=""), left)
        elif what == "built" and self.now is not None:
            self.progress.update(self.now[1], completed=1.0, left="")
            self.now = None
        if what in ("waiting", "built") or not self.console.is_terminal:
            self.console.print(f"{what} {stage.kind} {stage.key[:12]} {detail}".rstrip(), highlight=False)

    def _watch(self) -> None:
        last_line = time.time()
        while not self.stop.wait(0.5):
            if (now := self.now) is None:
                continue
            try:
                seen = read_progress(self.store, now[0].key)
            except (OSError, ValueError):
                continue
            rate = f"{seen['rate']:.1f} {seen['unit']}/s" if seen["rate"] > 0 else ""
            left = _text(now[2].report(seen["done"], seen["total"]))
            self.progress.update(now[1], completed=seen["done"] / max(seen["total"], 1), rate=rate, left=left)
            if not self.console.is_terminal and time.time() - last_line > 15:
                last_line = time.time()
                count = f"{seen['done']:.0f}/{seen['total']:.0f}"
                line = ", ".join(part for part in (f"{now[0].kind} {count} {rate}".rstrip(), left) if part)
                self.console.print(line, highlight=False)


def _text(left: float | None) -> str:
    return "" if left is None else f"{duration(left)} left"


@contextlib.contextmanager
def bar(what: str, console: Console, counted: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes, or (counted) of items; without a terminal a line every ten seconds.

    Yields the function to call with what is done and the total (0 if unknown).
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *([MofNCompleteColumn()] if counted else [DownloadColumn()]),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]}"),
    )
    amount = str if counted else size
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None, rate="", left="")
        last = time.monotonic()
        time_left = TimeLeft()

        def report(done: int, total: int) -> None:
            nonlocal last
            left = _text(time_left.report(done, total))
            rate = f"{amount(time_left.rate)}/s" if time_left.rate and not counted else ""
            progress.update(task, completed=done, total=total or None, rate=rate, left=left)
            now = time.monotonic()
            if not console.is_terminal and now - last > 10:
                last = now
                rest = f" of {amount(total)}" if total else ""
                console.print(", ".join(part for part in (f"{what}: {amount(done)}{rest}", left) if part), highlight=False)

        yield report
