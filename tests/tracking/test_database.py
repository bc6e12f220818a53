"""Databases of other MLflow versions."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ctt.tracking import Syncer, database_path, prepare_database
from ctt.tracking.database import revision
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


def test_a_newer_database_is_left_alone_and_reported(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    with sqlite3.connect(database_path(store)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'feedfeedfeed'")
    one = run(store)
    work(one.stages[0], range(1, 2))
    assert Syncer(SQLITE, store, [one]).sync_once() == 0
    assert "Upgrade MLflow, or move the file away" in caplog.text
    assert revision(database_path(store)) == "feedfeedfeed"
