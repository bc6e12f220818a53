"""Device use: what the process that builds a stage holds in memory, and how busy its device has been."""

from __future__ import annotations

import time
from statistics import fmean

import psutil

MEASURED = ("steps_per_second", "memory_mib", "cpu_percent", "gpu_percent")
"""Names in metrics.jsonl that depend on the machine and the moment, as `t` does."""
SYSTEM = MEASURED[1:]


class DeviceUse:
    """Memory and utilisation of one device by this process. Nothing here waits for the device.

    memory_mib: reserved on a CUDA device, else resident. cpu_percent: of one core, without child processes; gpu_percent: of the
    device, by all processes, the mean of the samples; absent where the driver does not report it (nvidia-ml-py is needed).
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._cuda = device.startswith("cuda")
        self._samples: list[float] = []
        self._since = (time.monotonic(), time.process_time())

    def sample(self) -> None:
        """Notes how busy the GPU is now; about a second between two samples is enough."""
        if self._cuda:
            import torch

            try:
                self._samples.append(float(torch.cuda.utilization(self._device)))
            except Exception:  # no NVML, no permission, a part of a GPU: there is nothing to report then
                self._cuda = False

    def since_last(self) -> dict[str, float]:
        """What was used since the last call, or since this was made."""
        before, self._since = self._since, (time.monotonic(), time.process_time())
        passed, used = (now - then for now, then in zip(self._since, before, strict=True))
        found = {"memory_mib": round(self._memory_mib(), 1)}
        if passed > 0:
            found["cpu_percent"] = round(100 * used / passed, 1)
        if self._samples:
            found["gpu_percent"] = round(fmean(self._samples), 1)
            self._samples = []
        return found

    def _memory_mib(self) -> float:
        if self._device.startswith("cuda"):
            import torch

            return torch.cuda.memory_reserved(self._device) / 2**20
        return float(psutil.Process().memory_info().rss) / 2**20
