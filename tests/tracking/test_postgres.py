"""MLflow behind PostgreSQL, as a team has it: 16 stores that sync at once, the same ones again, and a database that dies."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ctt.tracking.server import await_answer, end_group, free_port, start_server
from ctt.tracking.syncer import Syncer
from ctt.tracking.tracking_settings import TrackingSettings
from tests.tracking.made_up_runs import CATEGORIES, finish, run, stage, work
from tests.tracking.postgres import Postgres, postgres

pytestmark = pytest.mark.slow

STORES = 16


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def settings(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingSettings]:
    """The settings that name a real MLflow server on that database, cold."""
    folder = tmp_path_factory.mktemp("server")
    port = free_port("127.0.0.1", 0)
    server: subprocess.Popen[bytes] = start_server(folder, "127.0.0.1", port, backend=database.uri)
    try:
        await_answer(server, "127.0.0.1", port, threading.Event(), folder / "tracking" / "server.log")
        yield TrackingSettings(kind="server", uri=f"http://127.0.0.1:{port}", every=0.2, timeout=30)
    finally:
        end_group(server)


def ask(database: Postgres, question: str) -> list[tuple[Any, ...]]:
    """Reads PostgreSQL behind MLflow's back."""
    import psycopg

    connection = psycopg.connect(database.uri)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(question)
            return cursor.fetchall()
    finally:
        connection.close()


POINTS = (
    "SELECT runs.name, key, step, value, timestamp FROM metrics JOIN runs USING (run_uuid)"
    " WHERE lifecycle_stage = 'active' ORDER BY 1, 2, 3, 5"
)


def test_sixteen_stores_sync_at_once_and_a_second_time_changes_nothing(
    settings: TrackingSettings, database: Postgres, tmp_path: Path
) -> None:
    """Two runs a store in one experiment; one of the two is the same in all stores, as where a team repeats a baseline."""
    syncers, runs = [], []
    for k in range(STORES):
        store = tmp_path / str(k)
        own = run(store, f"own-{k}")
        shared = run(store, "shared-1", (stage(store, "world_model", "wm"), stage(store, "vqa", "vqa")), baseline=True)
        for one in (own, shared):
            work(one.stages[0], range(1, 31))
            finish(one.stages[0], validation={"error": 0.5})
            finish(one.stages[1], per_question=CATEGORIES)
        runs.append([own, shared])
        syncers.append(Syncer(settings, store, [own, shared]))
    barrier = threading.Barrier(STORES)

    def sync(syncer: Syncer) -> int:
        barrier.wait()
        return syncer.sync_once(patient=False)

    with ThreadPoolExecutor(STORES) as pool:
        list(pool.map(sync, syncers))
    # Whoever met a twin, or found the server busy, has settled it the next time.
    for k, syncer in enumerate(Syncer(settings, tmp_path / str(k), runs[k]) for k in range(STORES)):
        syncer.sync_once(patient=False)
        assert not syncer.down, k

    active = "SELECT runs.name FROM runs WHERE lifecycle_stage = 'active' ORDER BY 1"
    assert [name for (name,) in ask(database, active)] == sorted([*(f"own-{k}" for k in range(STORES)), "shared-1"])
    before = ask(database, POINTS)
    curve = [(name, step) for name, key, step, *_ in before if key == "world_model/train_loss"]
    assert curve == sorted((name, step) for name in {n for n, *_ in curve} for step in range(1, 31))
    assert len(curve) == 30 * (STORES + 1), "every point of every run, and each once"

    with ThreadPoolExecutor(STORES) as pool:
        again = list(pool.map(sync, [Syncer(settings, tmp_path / str(k), runs[k], rebuild=True) for k in range(STORES)]))
    assert again == [0] * STORES and ask(database, POINTS) == before
    experiments = ask(database, "SELECT name FROM experiments WHERE name = 'demo'")
    assert experiments == [("demo",)]


def test_a_database_that_dies_behind_the_server_loses_nothing(
    settings: TrackingSettings, database: Postgres, tmp_path: Path
) -> None:
    one = run(tmp_path, "survivor-1", sweep="other")
    work(one.stages[0], range(1, 4))
    syncer = Syncer(settings, tmp_path, [one])
    assert syncer.sync_once() == 3
    database.stop()
    work(one.stages[0], range(4, 8))
    assert syncer.sync_once(patient=False) == 0 and syncer.down
    database.start()
    work(one.stages[0], range(8, 10))
    for _ in range(5):  # the server's pool may hold connections that are gone
        if syncer.sync_once(patient=False):
            break
    steps = [step for name, key, step, *_ in ask(database, POINTS) if (name, key) == ("survivor-1", "world_model/train_loss")]
    assert steps == list(range(1, 10))
