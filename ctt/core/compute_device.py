"""The device that a stage runs on, and whether GPUs that were asked for can be used."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings

from ctt.core.errors import StageFailed
from ctt.core.process_group import ALONE, ProcessGroup

REQUESTED = "CTT_GPUS_REQUESTED"
"""Environment variable of a job whose launcher has asked for GPUs: the setting by which it did."""
NO_DEVICES = ("", "-1", "NoDevFiles")  # values in CUDA_VISIBLE_DEVICES that name no GPU


class GpuUnusable(StageFailed):
    """GPUs were asked for, and torch can use none."""


def visible_gpus() -> list[str] | None:
    """The GPUs in CUDA_VISIBLE_DEVICES; None if it is not set."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if value is None else [name.strip() for name in value.split(",") if name.strip() not in NO_DEVICES]


def requested_by() -> str | None:
    """What has asked for GPUs for this process: a launcher's setting or CUDA_VISIBLE_DEVICES; None: nothing."""
    if setting := os.environ.get(REQUESTED):
        return setting
    return f"CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']}" if visible_gpus() else None


def resolve(device: str, group: ProcessGroup = ALONE) -> str:
    """`auto` → cuda if available, else cpu. The processes of a host are distributed over its GPUs.

    Raises GpuUnusable where GPUs were asked for and none is available, unless `device` is cpu.
    """
    if device == "cpu":
        return device
    import torch

    with warnings.catch_warnings(record=True) as warned:  # torch warns of a driver that is too old, and finds no GPU
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if available:
        return f"cuda:{group.local % torch.cuda.device_count()}" if group.size > 1 else "cuda"
    asked = "device=cuda" if device == "cuda" else requested_by()
    if asked is None:
        return "cpu"
    seen = [f"torch {torch.__version__} is a build without CUDA"] if torch.version.cuda is None else []
    seen += [str(warning.message).strip().splitlines()[0] for warning in warned if str(warning.message).strip()]
    seen += [f"torch {torch.__version__} (CUDA {torch.version.cuda}) finds no GPU"] if not seen else []
    where = os.uname().nodename
    raise GpuUnusable(
        f"{asked} asks for a GPU, and none can be used on {where}: {'; '.join([*seen, _driver()])}. "
        "Load CUDA in launch.setup or install torch for it, or set device=cpu"
    )


def _driver() -> str:
    """What nvidia-smi shows of the driver and its GPUs, in one line."""
    if shutil.which("nvidia-smi") is None:
        return "nvidia-smi is not on PATH"
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace", timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi does not answer: {error}"
    lines = (done.stdout + done.stderr).strip().splitlines()
    return f"nvidia-smi: {lines[0].strip() if lines else f'no GPU, exit code {done.returncode}'}"
