"""Memory: the peak of a stage, the device's on CUDA, else this process's (without its children); a pause of its collection."""

from __future__ import annotations

import contextlib
import gc
import resource
from collections.abc import Iterator
from pathlib import Path


def reset_peak(device: str) -> None:
    """Resets the peak, so that `peak_mib` covers what follows. Systems that cannot reset it report the whole process."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # not Linux, or without permission
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_mib(device: str) -> float:
    """MiB since `reset_peak`: allocated on a CUDA device, else resident, mapped files included."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextlib.contextmanager
def paused_gc() -> Iterator[None]:
    """No garbage collection in a block or function that makes thousands of objects that stay: its search for unreachable cycles
    would go through all of them every time."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()
