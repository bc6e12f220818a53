"""Syncers that are killed, lose their notes or meet another one: never a point twice, never one lost."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ctt.core.build_context import BuildContext
from ctt.store import Store
from ctt.tracking.syncer import Syncer
from ctt.tracking.tracking_settings import database_path
from tests.tracking.made_up_runs import ROOT, SQLITE, curve, metrics, rows, run, work
from tests.waiting import until

pytestmark = pytest.mark.slow


def test_one_syncer_at_a_time_and_the_next_takes_over(store: Path) -> None:
    one, keeper = run(store), Store(store)
    work(one.stages[0], range(1, 3))
    first, second = (Syncer(SQLITE, store, [one], lease=lambda: keeper.lease("tracking", wait=False)) for _ in "ab")
    stop, after = threading.Event(), threading.Event()
    threads = [threading.Thread(target=s.follow, args=(e, 0.1)) for s, e in ((first, stop), (second, after))]
    threads[0].start()
    until(lambda: len(metrics(store)) == 2)
    assert second.sync_once() == 0
    threads[1].start()
    work(one.stages[0], range(3, 5))
    until(lambda: len(metrics(store)) == 4)
    stop.set()
    threads[0].join(20)
    work(one.stages[0], range(5, 7))
    until(lambda: len(metrics(store)) == 6)
    work(one.stages[0], range(7, 8))
    after.set()
    threads[1].join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert curve(store, "ctt-1", "world_model/train_loss") == [(s, 1 / s) for s in range(1, 8)]
    assert len(rows(database_path(store), "SELECT 1 FROM runs")) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from mlflow.tracking import MlflowClient
from ctt.tracking.syncer import Syncer
from tests.tracking.made_up_runs import SQLITE, run
send = MlflowClient.log_batch
def send_and_die(self, run_id, metrics=(), **others):
    send(self, run_id, metrics=metrics, **others)
    if metrics:
        os.kill(os.getpid(), signal.SIGKILL)
MlflowClient.log_batch = send_and_die
store = Path(sys.argv[1])
Syncer(SQLITE, store, [run(store)]).sync_once()
"""


def test_a_killed_syncer_is_continued_without_a_point_twice(store: Path) -> None:
    """Killed after the first of three batches has arrived and before the cursor records it; then the times change."""
    one = run(store)
    work(one.stages[0], range(1, 2501))
    child = subprocess.run([sys.executable, "-c", KILLED, str(store)], cwd=ROOT, check=False)
    assert child.returncode == -signal.SIGKILL
    assert len(metrics(store)) == 1000
    BuildContext(one.stages[0].working).rewind(500)
    time.sleep(0.002)
    work(one.stages[0], range(501, 2501))
    assert Syncer(SQLITE, store, [one]).sync_once() == 1500
    assert curve(store, "ctt-1", "world_model/train_loss") == [(s, 1 / s) for s in range(1, 2501)]


@pytest.mark.parametrize("loss", ["absent", "damaged", "distrusted"])
def test_a_lost_cursor_is_rebuilt_without_duplicates(store: Path, loss: str) -> None:
    one = run(store)
    work(one.stages[0], range(1, 6))
    Syncer(SQLITE, store, [one]).sync_once()
    before = metrics(store)
    for path in (store / "tracking").glob("*/*.json"):
        if loss == "absent":
            path.unlink()
        elif loss == "damaged":
            path.write_text("{")
    # Other times must not make second values: the file is written anew, as after going back to a checkpoint.
    path = one.stages[0].working / "metrics.jsonl"
    path.write_text(path.read_text().replace('{"t": 1', '{"t": 2'))
    assert Syncer(SQLITE, store, [one], rebuild=loss == "distrusted").sync_once() == 0
    assert metrics(store) == before
    work(one.stages[0], range(6, 7))
    assert Syncer(SQLITE, store, [one]).sync_once() == 1
    assert len(rows(database_path(store), "SELECT 1 FROM runs")) == 1


def test_work_that_went_back_to_its_checkpoint_gives_one_value_a_step(store: Path) -> None:
    one = run(store)
    model = one.stages[0]
    work(model, range(1, 6))
    syncer = Syncer(SQLITE, store, [one])
    syncer.sync_once()
    BuildContext(model.working).rewind(3)
    time.sleep(0.01)
    work(model, range(4, 8))
    assert syncer.sync_once() == 2
    assert curve(store, "ctt-1", "world_model/train_loss") == [(s, 1 / s) for s in range(1, 8)]


ANOTHER = """
import sys
from pathlib import Path
from ctt.tracking.syncer import Syncer
from tests.tracking.made_up_runs import SQLITE, run
store = Path(sys.argv[1])
print(Syncer(SQLITE, store, [run(store)]).sync_once())
"""


def test_a_deleted_database_is_made_again_from_the_store(tmp_path: Path, empty_database: Path) -> None:
    """The cursors still record that all was sent."""
    store = shutil.copytree(empty_database, tmp_path / "store")
    one = run(store)
    work(one.stages[0], range(1, 6))
    Syncer(SQLITE, store, [one]).sync_once()
    before = metrics(store)
    database_path(store).unlink()
    child = subprocess.run([sys.executable, "-c", ANOTHER, str(store)], cwd=ROOT, check=True, capture_output=True)
    assert child.stdout == b"5\n" and metrics(store) == before
