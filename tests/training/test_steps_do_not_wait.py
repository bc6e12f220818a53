"""A training step on a device waits for nothing: it sends all that it has drawn in one transfer, and reads no value.

Every `CHECKED_EVERY` steps the logged values are read, in one transfer. Counted on the second device of tests/other_device.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from ctt.training.trainer import CHECKED_EVERY
from tests.training.counted_steps import kinds

KINDS = [name for name, _ in kinds()]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    command = [sys.executable, "-m", "tests.training.counted_steps", str(tmp_path_factory.mktemp("counted"))]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    out: dict[str, list[dict[str, Any]]] = json.loads(done.stdout.splitlines()[-1])
    return out


@pytest.mark.parametrize("name", KINDS)
def test_a_step_sends_once_and_reads_nothing(found: dict[str, list[dict[str, Any]]], name: str) -> None:
    steps = found[name]
    assert len({(step["epoch"], step["step"]) for step in steps}) == len(steps) >= 4
    for number, step in enumerate(steps):
        assert len(step["sent"]) <= 1 or (number == 0 and "learned" in name), step  # its network is made in the first step
        assert len(step["read"]) <= (step["step"] % CHECKED_EVERY == 0), step
    assert any(step["sent"] for step in steps), "nothing was counted"
