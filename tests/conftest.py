"""What holds for all tests: one thread a process, which tests are slow, which files begin, and prepared stores.

Tests copy the stores (tests/prepared.py) and leave them as they are.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: its threads wait for each other actively, on cores that all share
os.environ["XDG_CONFIG_HOME"] = "/nonexistent"  # neither launch.yaml nor clevrer.yaml of the developer

from tests import prepared
from tests.faults.counting import fault, pytest_runtest_makereport, pytest_terminal_summary  # noqa: F401  # for all folders

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C, and so would what tests start

PREPARED = {"tiny_data", "tiny_sweep", "tiny_one_seed", "store_with_data"}
BEGIN = (
    "test_end_to_end", "test_failing_jobs", "test_notebooks", "test_examples", "test_sweep_on_slurm", "test_several_nodes",
    "test_cluster", "test_sharing", "test_soak", "test_dask_launcher", "test_package", "test_other_device", "test_gpu_check",
    "test_add_a_data_source", "test_add_a_stage", "test_old_store", "test_browser", "test_postgres", "test_several",
    "test_snapshot",
)  # fmt: skip
"""The files that take longest, so that no process is left with one of them at the end (Makefile: --no-loadscope-reorder). Those on
SLURM mostly wait: they stand beside files that compute."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what builds a sweep or needs SLURM as slow, and puts the files with slow tests first, the longest before all."""
    for item in items:
        if PREPARED & set(getattr(item, "fixturenames", ())) or item.get_closest_marker("slurm"):
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def rank(item: pytest.Item) -> tuple[int, bool]:
        name = item.path.stem
        return (BEGIN.index(name) if name in BEGIN else len(BEGIN), item.path not in slow)

    items.sort(key=rank)


FOR_CHILDREN = ("PYTHONSAFEPATH", "PYTHONUTF8")
BEFORE = {name: os.environ.get(name) for name in FOR_CHILDREN}


@pytest.fixture(autouse=True)
def variables_for_children() -> Iterator[None]:
    """`ctt` sets these for the processes that it starts; where a test runs it in this process, they end with the test."""
    yield
    for name, value in BEFORE.items():
        if value is None:
            os.environ.pop(name, None)


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
