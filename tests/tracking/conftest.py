"""Stores with an MLflow database in them."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def store(tmp_path: Path, empty_database: Path) -> Path:
    return shutil.copytree(empty_database, tmp_path / "store")


@pytest.fixture(autouse=True)
def audible() -> None:
    """Libraries that configure logging for their own command lines silence loggers that exist by then; not here."""
    log = logging.getLogger("ctt.tracking")
    log.disabled, log.propagate = False, True
    log.setLevel(logging.WARNING)
