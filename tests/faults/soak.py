"""Long lives: 500 runs in one process by `launch=inproc`, and `ctt sync --follow` for a day. Prints memory, open files, threads and
child processes once all is warm, half way and at the end.

    python -m tests.faults.soak [--runs 500] [--hours 24]
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

SMALLEST = [
    "data=mini", "data.train=8", "data.validation=4", "data.workers=1", "world_model=mini", "world_model.depth=1",
    "world_model.heads=2", "world_model.mlp_width=16", "world_model.epochs=1", "world_model.batch_size=8",
    "world_model.windows.per_epoch=16", "world_model.windows.validation=8", "aloe=mini", "aloe.layers=1", "aloe.width=8",
    "aloe.heads=2", "aloe.ffn=8", "aloe.head_hidden=4", "aloe.batch_size=16", "aloe.epochs=1", "aloe.shares=[0.1,0.05,0.05,0.05]",
    "aloe.eval_videos=2", "diagnostics.enabled=false", "reader.enabled=false", "device=cpu", "launch=inproc", "tracking=off",
]  # fmt: skip
WARM = 10
"""Runs, and minutes of the syncer, before the first look: until then modules are imported and memory is taken for good."""
MADE_UP = 1e6
EVERY = 600.0
"""Simulated seconds between two lines of metrics of the stage that runs while the syncer follows."""


class Heap(ctypes.Structure):
    """glibc's `struct mallinfo2`, of all arenas together."""

    names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = tuple((name, ctypes.c_size_t) for name in names)
    hblkhd: int
    uordblks: int
    fordblks: int

    @classmethod
    def now(cls) -> Heap:
        found = getattr(ctypes.CDLL(None), "mallinfo2", None)
        if found is None:  # not glibc
            return cls()
        found.restype = cls
        return found()  # type: ignore[no-any-return]


@dataclasses.dataclass(frozen=True)
class Figures:
    """Of one process: resident memory in MiB, how much of it malloc has given out and holds free, open file descriptors, threads,
    child processes."""

    memory: float
    given: float
    free: float
    files: int
    threads: int
    children: int

    @classmethod
    def now(cls) -> Figures:
        gc.collect()
        process = psutil.Process()
        children = [child for child in process.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
        memory = process.memory_info().rss / 2**20
        heap = Heap.now()
        given, free = (heap.uordblks + heap.hblkhd) / 2**20, heap.fordblks / 2**20
        return cls(round(memory, 1), round(given, 1), round(free, 1), process.num_fds(), process.num_threads(), len(children))


def run(count: int, root: Path) -> dict[str, Any]:
    """Runs a sweep of `count` seeds in this process; {"start", "middle", "end"}: its figures after the first runs, half of
    them and the last; "memory": in between, in MiB."""
    from ctt.cli import main
    from ctt.execution.jobs import job_process

    seen: list[Figures] = []
    original = job_process.run

    def looked(*arguments: Any) -> Any:
        outcome = original(*arguments)
        assert outcome["failure"] is None, outcome
        seen.append(Figures.now())
        return outcome

    job_process.run = looked
    os.environ["CTT_STORE"] = str(root / "store")
    try:
        main(["sweep", "quick", *SMALLEST, "ctt_inv_weight=0", "ctt_suf_weight=0", f"seed=range(0,{count})"])
    except SystemExit as end:
        assert not end.code, end.code
    assert len(seen) >= count, len(seen)
    memory = [one.memory for one in seen[:: max(1, len(seen) // 10)]]
    return {"start": seen[min(WARM, len(seen) // 2)], "middle": seen[len(seen) // 2], "end": seen[-1], "memory": memory}


class Clock:
    """The event by which a syncer is stopped: waiting for it advances the time of this process, until so many hours are over."""

    def __init__(self, hours: float, log: Any) -> None:
        self.end, self.passed, self.log, self.lines = 3600 * hours, 0.0, log, 0
        self.start: Figures | None = None
        self.middle: Figures | None = None
        self._monotonic, self._time = time.monotonic, time.time
        time.monotonic = lambda: self._monotonic() + self.passed
        time.time = lambda: self._time() + self.passed

    def is_set(self) -> bool:
        return self.passed >= self.end

    def wait(self, seconds: float) -> bool:
        self.passed += seconds
        if self.passed >= EVERY * self.lines:
            self.lines += 1
            self.log(self.lines)
        if self.start is None and self.passed >= 60 * WARM:
            self.start = Figures.now()
        if self.middle is None and self.passed >= self.end / 2:
            self.middle = Figures.now()
        return self.is_set()


def follow(hours: float, root: Path) -> dict[str, Any]:
    """Follows a store in which one stage trains for so many simulated hours; {"start", "middle", "end", "points": what MLflow has
    then}."""
    from ctt.core.build_context import BuildContext
    from ctt.study.tracked_sweep import store_syncer
    from ctt.tracking.tracking_settings import database_path
    from tests.made_store import made_store
    from tests.tracking.made_up_runs import SQLITE, rows

    store, plan = made_store(root / "store", "weights", "seed=0,1")
    stage = plan.lines[-1].world_model
    for key in (stage.key, plan.targets[-1].key):
        shutil.rmtree(store.path(key))
    context = BuildContext(store.work_folder(stage.key))
    clock: Any = Clock(hours, lambda line: context.log(line, train_loss=MADE_UP + line))
    syncer = store_syncer(dataclasses.replace(SQLITE, every=2.0), store)
    syncer.follow(clock)
    end = Figures.now()
    [(points,)] = rows(database_path(store.root), "SELECT count(*) FROM metrics WHERE value > ?", MADE_UP)
    assert clock.lines == points, f"{points} of {clock.lines} points were sent"
    return {"start": clock.start, "middle": clock.middle, "end": end, "points": points}


def apart(what: str, amount: float) -> dict[str, Any]:
    """`run` or `follow` in a process of its own; the figures as dicts, and the "seconds" of CPU."""
    command = [sys.executable, "-m", "tests.faults.soak", "--only", what, "--runs", f"{amount:g}", "--hours", f"{amount:g}"]
    before = os.times()
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {**json.loads(done.stdout.splitlines()[-1]), "seconds": round(used, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--runs", type=float, default=500)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--only", choices=("runs", "follow"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        with tempfile.TemporaryDirectory() as folder:
            found = run(int(options.runs), Path(folder)) if options.only == "runs" else follow(options.hours, Path(folder))
        print(json.dumps(found, default=dataclasses.asdict))
        return
    for what, amount, unit in (("runs", options.runs, "runs in one process"), ("follow", options.hours, "hours of sync --follow")):
        found = apart(what, amount)
        print(f"{amount:g} {unit}, {found['seconds']:g} s of CPU")
        if "memory" in found:
            print(f"  memory over the runs, MiB: {', '.join(map(str, found['memory']))}")
        for moment in ("start", "middle", "end"):
            one = found[moment]
            memory = f"{one['memory']:7.1f} MiB (malloc: {one['given']:.1f} given, {one['free']:.1f} free)"
            print(f"  {moment:6}  {memory}  {one['files']} files  {one['threads']} threads  {one['children']} children", flush=True)


if __name__ == "__main__":
    main()
