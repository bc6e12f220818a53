"""What a run was made on, and the line that ends it where there is no GPU."""

from __future__ import annotations

import datetime
import platform
import shutil
import subprocess
from typing import Any

import torch

from ctt.core.compute_device import GpuUnusable, resolve
from ctt.stages.code_version import git_commit


def unusable(device: str) -> str | None:
    """Why the device can't be used, in one line; None if it can."""
    try:
        resolve(device)
    except GpuUnusable as error:
        return str(error)
    return None


def provenance(device: str) -> dict[str, Any]:
    """Card, driver, versions, date and commit."""
    on_gpu = torch.device(device).type == "cuda"
    return {
        "card": torch.cuda.get_device_name(device) if on_gpu else None,
        "memory_mib": round(torch.cuda.get_device_properties(device).total_memory / 2**20) if on_gpu else None,
        "driver": _driver() if on_gpu else None,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
    }


def _driver() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.stdout.strip().partition("\n")[0] or None
