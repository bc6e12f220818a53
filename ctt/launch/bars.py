"""Bars for stages that are built in this process, with the time to go."""

from __future__ import annotations

import threading
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ctt.launch.follow import read_progress
from ctt.stages.base import Stage
from ctt.store import Store
from ctt.units import duration


class Bars:
    """Bars for the stages as they are built, read from their progress files; lines where there is no terminal."""

    def __init__(self, store: Store, console: Console) -> None:
        self.store, self.console = store, console
        columns = (
            TextColumn("{task.description:14}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.stop = threading.Event()
        self.now: tuple[Stage, TaskID] | None = None
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
        if what == "building":
            self.now = (stage, self.progress.add_task(stage.kind, total=1.0, rate=""))
        elif what == "built" and self.now is not None:
            self.progress.update(self.now[1], completed=1.0)
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
            rate = f"{seen['rate']:.1f} {seen['unit']}/s"
            self.progress.update(now[1], completed=seen["done"] / max(seen["total"], 1), rate=rate)
            if not self.console.is_terminal and time.time() - last_line > 15:
                last_line = time.time()
                left = duration((seen["total"] - seen["done"]) / max(seen["rate"], 1e-9))
                count = f"{seen['done']:.0f}/{seen['total']:.0f}"
                self.console.print(f"{now[0].kind} {count} {rate}, {left} to go", highlight=False)
