"""Sync process: a sweep's syncer in a separate process, so that the process that trains or follows jobs never loads MLflow.

    CTT_TRACKING=JSON python -m ctt.study.sync_process RECORD_FOLDER

The settings may hold a password, which an argument would show to every user of the host.
It syncs until its standard input closes, which also happens when its parent ends. Each line on standard input names a file
to log as an artifact of the sweep's own MLflow run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ctt.tracking.tracking_settings import TrackingSettings

TRACKING = "CTT_TRACKING"


@contextlib.contextmanager
def syncing(record: Path, tracking: TrackingSettings, patience: float = 60.0) -> Iterator[Callable[[Sequence[Path]], None]]:
    """Syncs a record in a separate process during the body, and once more at its end; yields a function that takes files.

    The body never waits for it, its end at most `patience` seconds.
    """
    if tracking.kind == "off":
        yield lambda files: None
        return
    arguments = [sys.executable, "-m", "ctt.study.sync_process", str(record)]
    environment = {**os.environ, TRACKING: json.dumps(dataclasses.asdict(tracking))}
    process = subprocess.Popen(arguments, env=environment, stdin=subprocess.PIPE, start_new_session=True)  # not ended by Ctrl-C
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
            print("ctt: MLflow is not up to date with the sweep; run `ctt sync` to update it", file=sys.stderr)


def main(arguments: list[str]) -> int:
    """The process; returns 0 if MLflow has everything, else 1."""
    from ctt.store import Store
    from ctt.study.record import load
    from ctt.study.tracked_sweep import store_syncer

    record, tracking = Path(arguments[0]), TrackingSettings(**json.loads(os.environ[TRACKING]))
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
