"""A small disk, on which commands of tests run out of space."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


def small_disk(folder: Path, size: str, inodes: int | None = None) -> list[str]:
    """The beginning of a command that runs where `folder` is a disk of that size ("1m") and number of files. Skips the test where
    nobody may mount one, as in some containers: that is a right of the host, no package that could be installed."""
    folder.mkdir(exist_ok=True)
    options = f"size={size}" + (f",nr_inodes={inodes}" if inodes else "")
    mount = f'mount -t tmpfs -o {options} none "$0" && exec "$@"'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, str(folder)]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this host lets nobody mount a small disk (unshare --map-root-user)")
    return command
