"""Training and evaluation keep all tensors on their device: tested on a second device that refuses to mix with the CPU.

CUDA's own kernels, its autocast and its speed are not tested.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.training.both_devices import OWN_DRAWS, cases

pytestmark = pytest.mark.slow

NAMES = [name for name, _ in cases()]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("devices")
    command = [sys.executable, "-m", "tests.training.both_devices", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    out: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return out


@pytest.mark.parametrize("name", NAMES)
def test_another_device_gives_the_same_bytes(found: dict[str, dict[str, Any]], name: str) -> None:
    other, cpu = found[name]["other"], found[name]["cpu"]
    assert other is not None, found[name]["error"]
    assert other.keys() == cpu.keys() and cpu
    assert (other == cpu) == (name not in OWN_DRAWS), "a case that gives the same bytes does not belong to OWN_DRAWS"


def test_the_other_device_refuses_to_mix() -> None:
    code = (
        "import torch; from tests.other_device import other_device\n"
        "with other_device() as other:\n"
        "    a, b = torch.ones(2, 2, device=other), torch.ones(2, 2)\n"
        "    assert (a @ b.to(other)).sum().item() == 8 and (a * torch.tensor(2.0)).device.type == other\n"
        "    a @ b\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "expected all tensors to be on the same device, found other and cpu" in done.stderr
