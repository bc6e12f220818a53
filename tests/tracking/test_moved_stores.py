"""Stores that are copied, moved, or lie under odd names: their MLflow view is theirs alone and goes along."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ctt.study.tracked_sweep import store_syncer
from ctt.tracking.database import prepare_database
from ctt.tracking.server import await_answer, end_group, free_port, start_server
from ctt.tracking.tracking_settings import TrackingSettings, database_path
from tests.made_store import made_store
from tests.tracking.made_up_runs import rows

pytestmark = pytest.mark.slow

ODD = "a?b=1&c %41%2F#d 'e' \"f\" ü;+"


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A store with a sweep, its report, and both in MLflow."""
    root = tmp_path_factory.mktemp("moved") / "first"
    shutil.copytree(empty_database, root)
    made_store(root, "weights", "ctt_inv_weight=0,0.2", "seed=0")
    report = root / "sweeps" / "weights" / "report"
    report.mkdir()
    (report / "table.md").write_text("| first |")
    sync(root, report / "table.md")
    return root


def sync(root: Path, *files: Path) -> None:
    from ctt.store import Store

    syncer = store_syncer(TrackingSettings(), Store.open(root))
    syncer.sync_once(patient=False)
    assert not syncer.down
    if files:
        assert syncer.finish(files, "weights")


def contents(root: Path) -> dict[str, str]:
    """{path: digest} of everything in a store."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def texts(database: Path) -> list[tuple[str, str, str]]:
    """(table, column, text) of every text in a database."""
    with sqlite3.connect(database) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = []
        for table in tables:
            cursor = connection.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in cursor.description]
            found += [(table, name, v) for row in cursor for name, v in zip(names, row, strict=True) if isinstance(v, str)]
    return found


@contextmanager
def served(root: Path) -> Iterator[str]:
    """The address of MLflow's server on a store."""
    port = free_port("127.0.0.1", 0)
    server = start_server(root, "127.0.0.1", port)
    try:
        await_answer(server, "127.0.0.1", port, threading.Event(), root / "tracking" / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        end_group(server)


def get(address: str, **query: str) -> bytes:
    with urllib.request.urlopen(f"{address}?{urllib.parse.urlencode(query)}") as answer:
        return bytes(answer.read())


def artifacts_seen(server: str, root: Path) -> dict[str, Any]:
    """What the server's pages get: the names of the table run's artifacts, and the table itself."""
    question = "SELECT run_uuid FROM tags WHERE key = 'ctt.kind' AND value = 'sweep'"
    [(run_id,)] = rows(database_path(root), question)
    listed = json.loads(get(f"{server}/api/2.0/mlflow/artifacts/list", run_id=run_id))
    return {
        "names": [file["path"] for file in listed.get("files", [])],
        "table": get(f"{server}/get-artifact", run_id=run_id, path="table.md").decode(),
    }


def test_the_view_holds_no_place_of_the_store(synced: Path) -> None:
    named = [entry for entry in texts(database_path(synced)) if str(synced.parent) in entry[2]]
    assert named == []
    assert any(table == "runs" and text.startswith("mlflow-artifacts:/") for table, _, text in texts(database_path(synced)))


def test_a_copy_writes_into_itself_alone(synced: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(synced, tmp_path / "second")
    before = contents(synced)
    table = copy / "sweeps" / "weights" / "report" / "table.md"
    table.write_text("| second |")
    made_store(copy, "weights", "ctt_inv_weight=0,0.3", "seed=0")
    sync(copy)
    assert contents(synced) == before, "nothing of the original is touched"
    assert len(rows(database_path(copy), "SELECT 1 FROM runs")) > len(rows(database_path(synced), "SELECT 1 FROM runs"))
    with served(copy) as server:
        assert artifacts_seen(server, copy) == {"names": ["table.md"], "table": "| second |"}


def test_a_moved_store_takes_its_view_along(synced: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(synced, old)
    old.rename(new)
    (new / "sweeps" / "weights" / "report" / "table.md").write_text("| moved |")
    sync(new)
    assert not old.exists()
    with served(new) as server:
        assert artifacts_seen(server, new)["table"] == "| moved |"
    assert len(rows(database_path(new), "SELECT 1 FROM runs")) == len(rows(database_path(synced), "SELECT 1 FROM runs"))


def test_the_places_that_an_earlier_version_wrote_become_relative(synced: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(synced, tmp_path / "copy")
    there = (synced / "mlflow-artifacts").as_uri()
    with sqlite3.connect(database_path(copy)) as connection:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
        ):
            connection.execute(f"UPDATE {table} SET {column} = replace({column}, 'mlflow-artifacts:', ?)", (there,))
        source = "UPDATE datasets SET dataset_source = replace(dataset_source, 'artifacts/', ?)"
        connection.execute(source, (f"{synced.as_uri()}/artifacts/",))
    assert sum("file:///" in text for *_, text in texts(database_path(copy))) >= 6
    prepare_database(copy)
    assert texts(database_path(copy)) == texts(database_path(synced))


def test_a_store_may_have_any_name(tmp_path: Path) -> None:
    root = tmp_path / ODD
    made_store(root, "weights", "ctt_inv_weight=0,0.2", "seed=0")
    report = root / "sweeps" / "weights" / "report"
    report.mkdir()
    (report / "table.md").write_text("| odd |")
    sync(root, report / "table.md")
    with served(root) as server:
        assert artifacts_seen(server, root) == {"names": ["table.md"], "table": "| odd |"}
        found = json.loads(get(f"{server}/api/2.0/mlflow/experiments/get-by-name", experiment_name="weights"))
        assert found["experiment"]["artifact_location"] == "mlflow-artifacts:/weights"
    assert [path.name for path in tmp_path.iterdir()] == [ODD], "nothing outside of the store"
