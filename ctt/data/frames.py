"""Frames of slots as the rows of one tensor, from which batches are gathered."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

CONVERTED_AT_ONCE = 64
"""Videos converted to bfloat16 at a time, to bound the memory for float32 copies."""


def frame_rows(slots: np.ndarray, store: str) -> Tensor:
    """Slots (V,F,S,D) as (V·F, S·D): float32, sharing a memory map's pages, or (store=bf16) rounded to bfloat16 in memory."""
    videos, frames = slots.shape[:2]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nothing writes to it
        if store == "float32":
            return torch.from_numpy(np.ascontiguousarray(slots, dtype=np.float32)).view(videos * frames, -1)
        out = torch.empty(slots.shape, dtype=torch.bfloat16)
        for first in range(0, videos, CONVERTED_AT_ONCE):
            part = slice(first, first + CONVERTED_AT_ONCE)
            out[part] = torch.from_numpy(np.asarray(slots[part], dtype=np.float32))
    return out.view(videos * frames, -1)
