"""Frames of slots as the rows of one tensor, from which batches are gathered."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor

from ctt.core.errors import SettingError

CONVERTED_AT_ONCE = 64
"""Videos converted or sent at a time, to bound the memory for copies."""
SHARE = 0.5
"""Part of a device's free memory that frames may take where they are put there by themselves: the step needs the rest."""
CPU = torch.device("cpu")
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def frame_rows(slots: np.ndarray, store: str, device: torch.device = CPU) -> Tensor:
    """Slots (V,F,S,D) as (V·F, S·D) on the device: float32, on the CPU sharing a memory map's pages, or (store=bf16) rounded
    to bfloat16."""
    videos, frames = slots.shape[:2]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nothing writes to it
        if store == "float32" and device.type == "cpu":
            return torch.from_numpy(np.ascontiguousarray(slots, dtype=np.float32)).view(videos * frames, -1)
        out = torch.empty(slots.shape, dtype=DTYPES[store], device=device)
        for first in range(0, videos, CONVERTED_AT_ONCE):
            part = slice(first, first + CONVERTED_AT_ONCE)
            out[part] = torch.from_numpy(np.asarray(slots[part], dtype=np.float32)).to(out.dtype)
    return out.view(videos * frames, -1)


def seen_rows(visible: np.ndarray, device: torch.device) -> Tensor:
    """Which slots of each frame are in view: bool (V,F,S) as (V·F, S) on the device."""
    return torch.from_numpy(np.ascontiguousarray(visible)).flatten(0, 1).to(device)


def size_of(slots: np.ndarray, store: str) -> int:
    """Bytes of `frame_rows(slots, store)`."""
    return math.prod(slots.shape) * DTYPES[store].itemsize


def fits(choice: str, need: int, device: torch.device, key: str) -> bool:
    """Whether frames of `need` bytes lie on the device, by the setting `key`: always (device), never (host), or (auto) where
    they leave enough of its free memory. False on the CPU. Raises SettingError if they must and cannot."""
    if device.type == "cpu" or choice == "host":
        return False
    memory = torch.get_device_module(device)
    unused = memory.memory_reserved(device) - memory.memory_allocated(device)  # torch holds it, for the next tensors
    free = memory.mem_get_info(device)[0] + unused
    if choice == "auto":
        return bool(need <= SHARE * free)
    if need > free:
        raise SettingError(
            f"{key}=device: the slots take {need / 2**30:.1f} GiB, and {device} has {free / 2**30:.1f} GiB free; "
            f"set {key} to auto or host"
        )
    return True


def place_of(name: str, need: int, device: torch.device, placed: bool) -> str:
    """Where the frames `name` are, for a log."""
    where = f"on {device}" if placed else "in host memory, sent one batch ahead"
    return f"{name} ({need / 2**30:.2g} GiB) {where}"
