"""A private SLURM cluster for the tests of this folder; see launch/devcluster."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


def load_devcluster() -> ModuleType:
    """launch/devcluster/private_cluster.py as a module; launch/ is not a package."""
    folder = str(Path(__file__).resolve().parents[3] / "launch" / "devcluster")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module("private_cluster")


@pytest.fixture(scope="session")
def devcluster() -> ModuleType:
    """The module. Without SLURM the test is skipped, or fails if CTT_REQUIRE_SYSTEM=1."""
    module = load_devcluster()
    if missing := module.missing_programs():
        reason = f"SLURM is not installed: {', '.join(missing)} missing (apt-get install {module.PACKAGES})"
        if os.environ.get("CTT_REQUIRE_SYSTEM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return module


@pytest.fixture(scope="session")
def cluster(devcluster: ModuleType) -> Iterator[object]:
    """A cluster, set in os.environ["SLURM_CONF"], that ends with the session; a leftover process is an error."""
    before = {name: os.environ.get(name) for name in ("SLURM_CONF", "PATH")}
    with tempfile.TemporaryDirectory(prefix="ctt-slurm-") as folder:  # short: unix sockets have short paths
        one = devcluster.Cluster(folder, devcluster.Size(grace=5))
        one.end_with_caller()
        try:
            one.up()
            os.environ.update({"SLURM_CONF": str(one.conf), "PATH": devcluster.SEARCH})
            yield one
        finally:
            one.down()
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
        assert one.leftovers() == []
