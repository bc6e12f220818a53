"""Modules whose calls can be compiled, and what CUDA graphs need around a call.

With mode=reduce-overhead torch replays a call on a GPU as a CUDA graph, forward and backward, in memory that its next replay
overwrites. So a call begins a step of torch's graphs, returns a copy, and has gradients added to buffers of its own: where
`.grad` is None, autograd would keep the graph's own memory as the gradient, and a second backward pass would overwrite it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ctt.models.compile_modes import REPLAYED


class Compilable(nn.Module):
    """A module with one tensor as its result, all of whose parameters get a gradient in every backward pass."""

    replayed = False
    """Whether calls are made so that CUDA graphs can replay them."""

    def compile_calls(self, mode: str, dynamic: bool | None = None) -> None:
        """Compiles what a call runs, in one of MODES; `forward` stays as it is. dynamic: as in torch.compile."""
        self.replayed = mode == REPLAYED
        self.compile(mode=mode, dynamic=dynamic)

    @property
    def compiled(self) -> bool:
        """Whether calling the module runs compiled code."""
        return self._compiled_call_impl is not None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.replayed:
            return super().__call__(*args, **kwargs)
        torch.compiler.cudagraph_mark_step_begin()
        if torch.is_grad_enabled():
            self._hold_gradients()
        out: Tensor = super().__call__(*args, **kwargs)
        return out.clone()

    def _hold_gradients(self) -> None:
        """Sets gradients that are None to zeros in buffers that are kept from step to step."""
        lacking = [p for p in self.parameters() if p.grad is None]
        held: dict[nn.Parameter, Tensor] = self.__dict__.setdefault("_held", {})
        buffers = [held.setdefault(p, torch.empty_like(p)) for p in lacking]
        if buffers:
            torch._foreach_zero_(buffers)
        for parameter, buffer in zip(lacking, buffers, strict=True):
            parameter.grad = buffer
