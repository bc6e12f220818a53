"""The most memory that work has held: the device's on CUDA, this process's elsewhere (not that of processes it started)."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path


def forget_peak(device: str) -> None:
    """From here on `peak_mib` tells of what comes. Where the system can't forget, it tells of the whole process."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # no Linux, or a locked-down one
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_mib(device: str) -> float:
    """MiB since `forget_peak`: allocated on a CUDA device, else resident, mapped files included."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
