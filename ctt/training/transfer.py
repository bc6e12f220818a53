"""Sending to a device: the host's tensors of a step in one transfer, and the next step's prepared meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch
from torch import Tensor

K = TypeVar("K")
ALIGNED = 16
"""Bytes at whose multiples the tensors of a buffer begin."""


class Packed:
    """Tensors of the host in one buffer of bytes; it is pinned for CUDA, so that sending it does not wait."""

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        self._device, self._places, size = device, {}, 0
        for name, tensor in tensors.items():
            self._places[name] = (slice(size, size + tensor.nbytes), tensor.dtype, tensor.shape)
            size += -(-tensor.nbytes // ALIGNED) * ALIGNED
        self._buffer = torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
        for name, view in self._views(self._buffer).items():
            view.copy_(tensors[name])

    def sent(self) -> dict[str, Tensor]:
        """The tensors on the device, by one transfer."""
        return self._views(self._buffer.to(self._device, non_blocking=True))

    def _views(self, buffer: Tensor) -> dict[str, Tensor]:
        return {name: buffer[part].view(dtype).view(shape) for name, (part, dtype, shape) in self._places.items()}


def sent(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The tensors on the device, by one transfer; the tensors themselves if that is the CPU."""
    return dict(tensors) if device.type == "cpu" else Packed(tensors, device).sent()


class Sender(Generic[K]):
    """Makes the tensors of a step (`make(key)`, on the host) and sends them. ahead: those of the following step are made and
    packed in a thread while a step is computed; for work too long to do it between two steps, as gathering slots is."""

    def __init__(self, make: Callable[[K], Mapping[str, Tensor]], device: torch.device, ahead: bool) -> None:
        self._make, self._device = make, device
        self._thread = ThreadPoolExecutor(1) if ahead and device.type != "cpu" else None
        self._next: tuple[K, Future[Packed]] | None = None

    def take(self, key: K, following: K | None = None) -> dict[str, Tensor]:
        """The tensors of step `key` on the device. following: the step after it, None if that is not known."""
        if self._thread is None:
            return sent(self._make(key), self._device)
        begun, self._next = self._next, None
        packed = None if begun is None else begun[1].result()
        if packed is None or begun is None or begun[0] != key:
            packed = self._packed(key)
        if following is not None:
            self._next = (following, self._thread.submit(self._packed, following))
        return packed.sent()

    def _packed(self, key: K) -> Packed:
        return Packed(self._make(key), self._device)
