"""Everything that is trained or read on a device is on that device: against a second one that refuses to mix with the CPU.

What this can't show is CUDA's own kernels, autocast there, and speed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.training.both_devices import OWN_DRAWS, cases

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
    assert found[name]["there"] is not None, found[name]["error"]
    assert found[name]["there"].keys() == found[name]["here"].keys() and found[name]["here"]
    if name not in OWN_DRAWS:
        assert found[name]["there"] == found[name]["here"]
    else:
        assert found[name]["there"] != found[name]["here"], "then it should stand with the others"


def test_the_other_device_refuses_to_mix() -> None:
    code = (
        "import torch; from tests.other_device import other_device\n"
        "with other_device() as there:\n"
        "    a, b = torch.ones(2, 2, device=there), torch.ones(2, 2)\n"
        "    assert (a @ b.to(there)).sum().item() == 8 and (a * torch.tensor(2.0)).device.type == there\n"
        "    a @ b\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "expected all tensors to be on the same device, found other and cpu" in done.stderr
