"""Counts what makes a step wait for the other device (tests/other_device.py): tensors sent to it, and values read from it."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tests.other_device import INDEXING, OTHER, Held

ATEN = torch.ops.aten
COPIES = (ATEN._to_copy.default, ATEN.copy_.default)
SIZED_BY_VALUES = (
    ATEN._local_scalar_dense.default,
    ATEN.is_nonzero.default,
    ATEN.nonzero.default,
    ATEN.masked_select.default,
    ATEN.equal.default,
    ATEN._unique2.default,
    ATEN.bincount.default,
    ATEN.repeat_interleave.Tensor,
)
"""Operations whose result, or its size, the host must know; on CUDA they wait for all work before them."""


class Waits(TorchDispatchMode):
    """Counts while it is active; entered within `other_device()`. `sent` and `read` hold the operations, with their shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []
        self.read: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        held, what = [t for t in tensors if isinstance(t, Held)], f"{func} {[tuple(t.shape) for t in tensors]}"
        if func in COPIES:
            target, source = (args[0], args[1]) if func is ATEN.copy_.default else (kwargs.get("device"), args[0])
            there = isinstance(target, Held) if isinstance(target, torch.Tensor) else _is_other(target, source)
            if there and not isinstance(source, Held):
                self.sent.append(what)
            if not there and isinstance(source, Held):
                self.read.append(what)
        elif func in SIZED_BY_VALUES and held:
            self.read.append(what)
        elif func in INDEXING and isinstance(args[0], Held):
            index = [i for i in args[1] if i is not None]
            self.sent += [what for i in index if not isinstance(i, Held)]
            self.read += [what for i in index if i.dtype in (torch.bool, torch.uint8)]
        return func(*args, **kwargs)


def _is_other(device: Any, source: torch.Tensor) -> bool:
    """Whether `_to_copy` with this argument (None: the source's own) makes a tensor of the other device."""
    return isinstance(source, Held) if device is None else torch.device(device).type == OTHER
