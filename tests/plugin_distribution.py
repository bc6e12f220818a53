"""Distributions with plugins, installed outside of the checkout and of the test environment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def install(source: Path, where: Path) -> Path:
    """Installs the distribution in the folder `source` as pip does; returns the folder to put on PYTHONPATH."""
    copied = shutil.copytree(source, where / "source")  # building writes next to the source
    target = where / "installed"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--disable-pip-version-check",
    ]
    done = subprocess.run([*command, "--target", str(target), str(copied)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that the test starts from now on import from `folder`."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")])))
