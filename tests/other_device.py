"""A second device that computes on the CPU and refuses to mix with it: a test of the CUDA path on a machine without a GPU.

Its tensors wrap CPU tensors, on which operations are computed. An operation that also gets a CPU tensor with dimensions
fails, as on CUDA (where only scalars, and indices into a tensor, may be on the CPU). A device stays registered until
the process ends, so use it in a process of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

OTHER = "other"
MEMORY = 2**30
ATEN = torch.ops.aten
INDEXING = (ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default)


class Held(torch.Tensor):
    """A tensor of the other device; `held` is the CPU tensor with its values."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Held:
        made: Held = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]  # not in torch's stubs
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(OTHER, 0),
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    on_other = any(isinstance(tensor, Held) for tensor in tensors)
    device = kwargs.get("device")
    to_other = device is not None and torch.device(device).type == OTHER
    if on_other and func not in (ATEN._to_copy.default, ATEN.copy_.default):
        _check_devices(func, tensors)
    inner_args, inner = pytree.tree_map_only(Held, lambda tensor: tensor.held, (args, kwargs))
    if device is not None:
        inner |= {"device": torch.device("cpu"), "pin_memory": False} if "pin_memory" in inner else {"device": "cpu"}
    out = func(*inner_args, **inner)
    if func is ATEN.copy_.default:
        return args[0]
    if func is ATEN._to_copy.default and device is not None and out.data_ptr() == inner_args[0].data_ptr():
        out = out.clone()
    if not (to_other if device is not None else on_other):
        return out
    wrapped = pytree.tree_map_only(torch.Tensor, Held, out)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if on_other else wrapped


def _check_devices(func: Any, tensors: list[torch.Tensor]) -> None:
    """Raises RuntimeError if one of the tensors is on the CPU and may not be."""
    on_cpu = [tensor for tensor in tensors if not isinstance(tensor, Held) and tensor.dim() > 0]
    if func in INDEXING:
        on_cpu = [tensor for tensor in on_cpu if tensor.dtype not in (torch.int64, torch.bool)]
    if on_cpu:
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, found {OTHER} and cpu")


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Module(_DummyBackendModule):
    """The module `torch.other`."""

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        pass

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        """Bytes that are free and that there are: `MEMORY`, whatever is held."""
        return MEMORY, MEMORY

    def memory_reserved(self, device: Any = None) -> int:
        return 0

    def memory_allocated(self, device: Any = None) -> int:
        return 0

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float32]


class _Accelerator(CPUAccelerator):
    """The other device's accelerator for Lightning."""

    def setup_device(self, device: torch.device) -> None:
        pass


@contextlib.contextmanager
def other_device() -> Iterator[str]:
    """Registers the device with torch and Lightning and yields its name; can be used once in a process."""
    _setup_privateuseone_for_python_backend(OTHER, _Module())
    generator, trainer = torch.Generator, lightning.Trainer

    def make_trainer(**settings: Any) -> lightning.Trainer:
        if settings.get("accelerator") == OTHER:
            del settings["accelerator"], settings["devices"]
            settings["strategy"] = SingleDeviceStrategy(torch.device(OTHER, 0), _Accelerator())
        return trainer(**settings)

    torch.Generator = lambda device="cpu": generator()  # type: ignore[misc,assignment]  # draws on the CPU
    lightning.Trainer = make_trainer  # type: ignore[misc,assignment]
    try:
        with _Mode():
            yield OTHER
    finally:
        torch.Generator, lightning.Trainer = generator, trainer  # type: ignore[misc]
