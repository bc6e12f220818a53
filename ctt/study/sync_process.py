"""Mirror: a sweep's syncer in a process of its own: the one that trains, or follows a thousand jobs, has no time and memory
for MLflow.

    python -m ctt.study.sync_process RECORD_FOLDER TRACKING_JSON

It syncs until its standard input closes, as it does when whoever started it is gone; the lines it is given there name the
files to make artifacts of the sweep's own run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ctt.tracking.tracking_settings import TrackingSettings


@contextlib.contextmanager
def syncing(
    record: Path, tracking: TrackingSettings, patience: float = 60.0
) -> Iterator[Callable[[Sequence[Path]], None]]:
    """The syncer of a record runs beside the body, and once more at its end; yields what gives it files.

    It never holds the body up, and its end no longer than `patience` seconds.
    """
    if tracking.kind == "off":
        yield lambda files: None
        return
    arguments = [sys.executable, "-m", "ctt.study.sync_process", str(record), json.dumps(dataclasses.asdict(tracking))]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, start_new_session=True)  # Ctrl-C is not for it
    published: list[Path] = []
    try:
        yield published.extend
    finally:
        try:
            process.communicate("\n".join(map(str, published)).encode(), patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        if process.returncode:
            print("ctt: MLflow is not up to date with the sweep; `ctt sync` brings it there", file=sys.stderr)


def main(arguments: list[str]) -> int:
    """The process: 0 if MLflow has everything, else 1."""
    from ctt.store import Store
    from ctt.study.record import load
    from ctt.study.tracked_sweep import store_syncer

    record, tracking = Path(arguments[0]), TrackingSettings(**json.loads(arguments[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    plan = load(record)
    syncer = store_syncer(tracking, Store.open(record.parents[2]), plan)
    stop = threading.Event()
    thread = threading.Thread(target=syncer.follow, args=(stop,), daemon=True)
    thread.start()
    files = [Path(line) for line in sys.stdin.read().splitlines()]
    stop.set()
    thread.join()
    if files:
        syncer.finish(files, plan.sweep.name)
    return int(syncer.down)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
