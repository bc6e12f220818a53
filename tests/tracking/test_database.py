"""Databases of other MLflow versions."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ctt.core.errors import StoreError
from ctt.tracking.database import prepare_database, revision
from ctt.tracking.syncer import Syncer
from ctt.tracking.tracking_settings import database_path
from tests.tracking.made_up_runs import SQLITE, rows, run, work

pytestmark = pytest.mark.slow


def test_an_older_database_is_upgraded_and_kept_beside(tmp_path: Path) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine
    from mlflow.store.tracking.dbmodels.initial_models import Base

    path = database_path(tmp_path)
    engine = create_sqlalchemy_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    config = _get_alembic_config(f"sqlite:///{path}")
    script = ScriptDirectory.from_config(config)
    newest = script.get_current_head()
    older = script.get_revision(newest).down_revision
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, older)
    engine.dispose()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'old', 'active')")
    prepare_database(tmp_path)
    assert revision(path) == newest
    assert rows(path, "SELECT experiment_id FROM experiments WHERE name = 'old'") == [(7,)]
    assert revision(path.with_name(f"mlflow.db.{older}")) == older


@pytest.mark.parametrize("kind", ["garbage", "text", "torn", "folder"])
def test_a_file_that_is_no_database_is_named_with_the_remedy(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = database_path(tmp_path)
    if kind == "folder":
        path.mkdir()
    elif kind == "torn":
        with sqlite3.connect(path) as connection:
            connection.executescript("".join(f"CREATE TABLE t{n} (x TEXT);" for n in range(300)))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes({"garbage": bytes(range(256)) * 20, "text": b"not a database\n" * 9}[kind])
    message = f"{path} is not a database that SQLite can read .* move it away: `ctt sync` makes it anew"
    with pytest.raises(StoreError, match=message):
        prepare_database(tmp_path)
    syncer = Syncer(SQLITE, tmp_path, [run(tmp_path)])
    assert syncer.sync_once() == 0 and syncer.down and "move it away" in caplog.text
    assert [one.name for one in tmp_path.glob("mlflow.db*")] == ["mlflow.db"]


def test_a_newer_database_is_left_alone_and_reported(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    with sqlite3.connect(database_path(store)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'feedfeedfeed'")
    one = run(store)
    work(one.stages[0], range(1, 2))
    assert Syncer(SQLITE, store, [one]).sync_once() == 0
    assert "Upgrade MLflow, or move the file away" in caplog.text
    assert revision(database_path(store)) == "feedfeedfeed"
