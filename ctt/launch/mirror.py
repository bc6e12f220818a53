"""Mirror: a sweep's syncer in a process of its own, so that the one that follows a thousand jobs needs no memory for MLflow.

    python -m ctt.launch.mirror RECORD_FOLDER TRACKING_JSON

It syncs until its standard input closes, as it does when whoever started it is gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from ctt.tracking.settings import TrackingSettings


@contextlib.contextmanager
def mirroring(record: Path, tracking: TrackingSettings, patience: float = 60.0) -> Iterator[None]:
    """The syncer of a record runs beside the body, and once more at its end."""
    words = [sys.executable, "-m", "ctt.launch.mirror", str(record), json.dumps(dataclasses.asdict(tracking))]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)  # Ctrl-C is not for it
    assert process.stdin is not None
    try:
        yield
    finally:
        process.stdin.close()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            print("ctt: MLflow is slow to answer; `ctt sync` brings it up to date later", file=sys.stderr)


def main(words: list[str]) -> int:
    """The process."""
    from ctt.launch.track import store_syncer
    from ctt.recorded.record import load
    from ctt.store import Store

    record, tracking = Path(words[0]), TrackingSettings(**json.loads(words[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    syncer = store_syncer(tracking, Store.open(record.parents[2]), load(record))
    stop = threading.Event()
    thread = threading.Thread(target=syncer.follow, args=(stop,), daemon=True)
    thread.start()
    sys.stdin.read()
    stop.set()
    thread.join(50)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
