"""One run in this process, with a bar for each stage."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ctt import costs
from ctt.config import Config
from ctt.launch.follow import read_progress
from ctt.launch.frozen import build_sides
from ctt.plan import sides_of, target_of
from ctt.stages.base import Stage, build
from ctt.store import Store
from ctt.sweep import canonical


def run_single(config: Config) -> int:
    """Builds the run of `config`; prints its accuracies and key."""
    console = Console()
    config = canonical(config)
    config.check()
    target = target_of(config)
    store = Store.open(config.store)
    with _Bars(store, console) as bars:
        more: Any = dict(device=config.device, on_event=bars.event, on_built=lambda *built: costs.record(store, *built))
        artifact = build(target, store, **more)
        failed = build_sides(sides_of(config, target), store, **more)
    metrics = json.loads(artifact.file("metrics.json").read_text(encoding="utf-8"))
    for category, value in metrics["per_question"].items():
        console.print(f"{category:16} {value:6.2f} %")
    console.print(f"{'average':16} {metrics['average']:6.2f} %")
    console.print(f"run {target.key}\n{artifact.path}", soft_wrap=True, highlight=False)
    for kind, message in failed.items():
        console.print(f"{kind} failed: {message}", soft_wrap=True, highlight=False)
    return int(bool(failed))


class _Bars:
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

    def __enter__(self) -> _Bars:
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
                self.console.print(f"{now[0].kind} {seen['done']:.0f}/{seen['total']:.0f} {rate}", highlight=False)
