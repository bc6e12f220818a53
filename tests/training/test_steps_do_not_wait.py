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

pytestmark = pytest.mark.slow

KINDS = [name for name, _ in kinds()]


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """What each step and each epoch's end sent and read, by the kind of training; and what was written to stderr."""
    command = [sys.executable, "-m", "tests.training.counted_steps", str(tmp_path_factory.mktemp("counted"))]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize("name", KINDS)
def test_a_step_sends_once_and_reads_nothing(counted: tuple[dict[str, list[dict[str, Any]]], str], name: str) -> None:
    steps = [step for step in counted[0][name] if step["step"] >= 0]
    assert len({(step["epoch"], step["step"]) for step in steps}) == len(steps) >= 4
    for number, step in enumerate(steps):
        made = number == 0 and "learned" in name  # the source's network is made in the first step
        assert made or len(step["sent"]) <= 1, step
        assert len(step["read"]) == (step["step"] % CHECKED_EVERY == 0), step
    assert steps[0]["sent"], "nothing was counted"
    assert all(step["sent"] for step in steps) or not name.endswith("on the host")


@pytest.mark.parametrize("name", KINDS)
def test_an_epoch_s_end_reads_its_values_and_the_validation_once_each(
    counted: tuple[dict[str, list[dict[str, Any]]], str], name: str
) -> None:
    """After the first one, in which the validation's windows are sent and trivial predictions are measured."""
    _, last = (step for step in counted[0][name] if step["step"] < 0)
    assert len(last["read"]) == 2, last
    assert len(last["sent"]) <= (name.startswith("ALOE") or name.endswith("on the host")), last


def test_the_log_has_a_line_on_where_the_data_lies(counted: tuple[dict[str, list[dict[str, Any]]], str]) -> None:
    lines = [line for line in counted[1].splitlines() if "device=" in line]
    assert len(lines) == len(KINDS)
    where = {"auto": "on other", "host": "in host memory, sent one batch ahead"}
    for line in lines:
        key, choice = line.split(": ")[0].split("=")
        assert key in ("world_model.windows.device", "aloe.data_device") and line.count(f"GiB) {where[choice]}") == 2
    assert sum("=host" in line for line in lines) == sum(name.endswith("on the host") for name in KINDS) == 2
