"""Prepared stores as fixtures (tests/prepared.py). Tests copy them and leave them as they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import prepared


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this session's, the same one in all of its processes."""
    folder = tmp_path_factory.getbasetemp()
    return (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "prepared"


@pytest.fixture(scope="session")
def tiny_data(common: Path) -> Path:
    """A store that holds the data set of the tiny sweep."""
    return prepared.once(common, "data", prepared.with_data)


@pytest.fixture(scope="session")
def tiny_sweep(common: Path) -> Path:
    """A store in which the tiny sweep has run by `inproc`, with tracking."""
    return prepared.once(common, "sweep", prepared.with_sweep)


@pytest.fixture(scope="session")
def tiny_one_seed(common: Path, tiny_sweep: Path) -> Path:
    """A store with the first seed of the tiny sweep, and its record."""
    return prepared.once(common, "one-seed", lambda store: prepared.with_one_seed(store, tiny_sweep))


@pytest.fixture(scope="session")
def empty_database(common: Path) -> Path:
    """A store with an MLflow database and nothing else."""
    return prepared.once(common, "database", prepared.with_database)


@pytest.fixture
def store_with_data(tiny_data: Path, tmp_path: Path) -> Path:
    """A store of the test's own, with the data set of the tiny sweep."""
    return prepared.copy_artifacts(tiny_data, tmp_path / "store")
