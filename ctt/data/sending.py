"""Sending to a device: the tensors of a step in one transfer, and those of the next one prepared meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch
from torch import Tensor

K = TypeVar("K")
T = TypeVar("T")
ALIGNED = 16
"""Bytes at whose multiples the tensors of a buffer begin."""


class Packed:
    """Tensors of the host in one buffer of bytes, pinned for CUDA so that sending it does not wait. For the CPU they stay
    as they are."""

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        self._device, self._tensors = device, dict(tensors)
        if device.type == "cpu":
            return
        self._places: dict[str, tuple[slice, torch.dtype, torch.Size]] = {}
        size = 0
        for name, tensor in tensors.items():
            self._places[name] = (slice(size, size + tensor.nbytes), tensor.dtype, tensor.shape)
            size += -(-tensor.nbytes // ALIGNED) * ALIGNED
        self._buffer = torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
        for name, view in self._views(self._buffer).items():
            view.copy_(self._tensors.pop(name))

    def sent(self) -> dict[str, Tensor]:
        """The tensors on the device, by one transfer."""
        if self._device.type == "cpu":
            return self._tensors
        return self._views(self._buffer.to(self._device, non_blocking=True))

    def _views(self, buffer: Tensor) -> dict[str, Tensor]:
        return {name: buffer[part].view(dtype).view(shape) for name, (part, dtype, shape) in self._places.items()}


class Ahead(Generic[K, T]):
    """Makes things by their key. threaded: the one that follows is made in a thread, while the one before is used.

    What makes them is not kept: it would keep the slots alive that it reads."""

    def __init__(self, threaded: bool) -> None:
        self._thread = ThreadPoolExecutor(1) if threaded else None
        self._next: tuple[K, Future[T]] | None = None

    def take(self, make: Callable[[K], T], key: K, following: K | None) -> T:
        """make(key). following: the key of the next call, None if that is not known."""
        if self._thread is None:
            return make(key)
        begun, self._next = self._next, None
        made = None if begun is None else begun[1].result()  # also one that is not wanted: two at a time could interfere
        if begun is None or made is None or begun[0] != key:
            made = make(key)
        if following is not None:
            self._next = (following, self._thread.submit(make, following))
        return made
