"""The MLflow database of a store: made once, whole or not at all, and brought up to date with a backup."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from ctt.core.errors import StoreError
from ctt.tracking.cursor import write_note
from ctt.tracking.limits import ARTIFACTS
from ctt.tracking.tracking_settings import database_address, database_path
from ctt.tracking.view import quiet

_PLACES = (  # where MLflow keeps locations
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("logged_model_tags", "tag_value"),
    ("datasets", "dataset_source"),
)


def artifacts_path(store_root: Path) -> Path:
    """The folder that ARTIFACTS means to a store's database."""
    return Path(store_root).resolve() / "mlflow-artifacts"


def prepare_database(store_root: Path, *, upgrade: bool = True) -> Path:
    """The store's MLflow database, made if absent and brought to the installed MLflow's tables if older.

    A new one is made aside and linked into place, so that processes that start together never see half a database.
    Upgrading keeps the old file as mlflow.db.REVISION and belongs under the tracking lease; upgrade=False is
    for those who can't have it. Raises StoreError if the database was made by a newer MLflow, can't be upgraded, or is no
    database.
    """
    path = database_path(store_root)
    note = path.parent / "tracking" / "database.json"
    version = importlib.metadata.version("mlflow")
    fresh = not path.exists()
    if fresh:
        _create(path)
    with _readable(path):
        if _noted(note) != [version, revision(path)]:
            if not fresh and not upgrade:
                raise StoreError(f"{path} is to be upgraded, but another process is using it; end that one first")
            if not fresh:
                _upgrade(path)
            write_note(note, {"mlflow": version, "revision": revision(path)})
        if not fresh and upgrade:
            _make_relative(path)
    return path


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raises StoreError, with the remedy, where SQLite cannot read the file that it opens in the body."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(
            f"{path} is not a database that SQLite can read ({error}); move it away: `ctt sync` makes it anew from the store"
        ) from error


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    quiet()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder = Path(tempfile.mkdtemp(prefix="mlflow.new.", dir=path.parent))
    try:
        store = SqlAlchemyStore(database_address(folder), ARTIFACTS)
        store.engine.dispose()
        with contextlib.suppress(FileExistsError):  # somebody was faster: theirs is as good
            os.link(folder / "mlflow.db", path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_relative(path: Path) -> None:
    """Makes the places in a database relative that an earlier version wrote as of one machine: the store may lie elsewhere now."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.create_function("relative", 1, _relative)
        for table, column in _PLACES:
            absolute = f"{column} LIKE '%file:///%'"
            if connection.execute(f"SELECT 1 FROM {table} WHERE {absolute} LIMIT 1").fetchone():
                connection.execute(f"UPDATE {table} SET {column} = relative({column}) WHERE {absolute}")


def _relative(text: str) -> str:
    """A location of the store's MLflow artifacts, or of an artifact of the store, without the place of the store."""
    if found := re.fullmatch(r"file:///.*/mlflow-artifacts/(.*)", text):
        return ARTIFACTS + unquote(found[1])
    return re.sub(r"file:///[^\"]*/(artifacts/[0-9a-f]{2}/[0-9a-f]{64})", r"\1", text)


def _noted(note: Path) -> list[object]:
    try:
        record = json.loads(note.read_text(encoding="utf-8"))
        return [record["mlflow"], record["revision"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def revision(path: Path) -> str | None:
    """The revision of a database's tables, None if it has none."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.DatabaseError:
            return None
    return row[0] if row else None


def _upgrade(path: Path) -> None:
    before = revision(path)
    backup = path.with_name(f"{path.name}.{before or 'unknown'}")
    try:
        with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(backup)) as copy:
            source.backup(copy)
    except sqlite3.Error:
        backup.unlink(missing_ok=True)
        raise
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", database_address(path.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise StoreError(
            f"{path} can't be read by MLflow {importlib.metadata.version('mlflow')} ({last}). Upgrade MLflow, or move "
            f"the file away: `ctt sync` makes it anew from the store. A copy is in {backup.name}."
        )
    if revision(path) == before:
        backup.unlink()
