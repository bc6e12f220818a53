"""Optimizers and learning-rate schedules of the world model and of ALOE."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.training.training_settings import WorldModelSettings


class Float32Muon(torch.optim.Muon):
    """torch's Muon, orthogonalising in the gradients' precision instead of bfloat16, whose products many CPUs only emulate."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            weights: list[Tensor] = []
            gradients: list[Tensor] = []
            buffers: list[Tensor] = []
            self._init_group(group, weights, gradients, buffers)
            for weight, gradient, buffer in zip(weights, gradients, buffers, strict=True):
                buffer.lerp_(gradient, 1 - momentum)
                update = orthogonal(gradient.lerp(buffer, momentum), group["ns_coefficients"], group["ns_steps"], group["eps"])
                weight.mul_(1 - rate * group["weight_decay"])
                weight.add_(update, alpha=-rate * math.sqrt(max(1.0, weight.shape[0] / weight.shape[1])))
        return loss


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """The (m,n) matrix with its singular values moved to about 1 by Newton-Schulz steps (Jordan 2024, Muon)."""
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if tall else matrix
    found = found / found.norm().clamp(min=eps)
    for _ in range(steps):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.T if tall else found


def muon(matrices: Sequence[nn.Parameter], precision: str, rate: float, decay: float) -> torch.optim.Muon:
    """Muon with the published momentum; precision: of its orthogonalisation."""
    made = Float32Muon if precision == "fp32" else torch.optim.Muon
    return made(matrices, lr=rate, weight_decay=decay)


def optimizers_for(model: nn.Module, settings: WorldModelSettings) -> list[torch.optim.Optimizer]:
    """AdamW for all parameters, or Muon for the layers' matrices and AdamW for the rest."""
    matrices = []
    if settings.optimizer == "muon":
        matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and name.startswith("transformer.layers.")]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    rate, decay = settings.learning_rate, settings.weight_decay
    made: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, lr=rate, weight_decay=decay, fused=True)]
    if matrices:
        made.append(muon(matrices, settings.muon_precision, settings.muon_rate, decay))
    return made


def set_rates(optimizers: Sequence[torch.optim.Optimizer], settings: WorldModelSettings, step: int) -> None:
    """Sets the learning rates for the training's step number `step`: rate / (1 + step / decay_steps), or constant."""
    if settings.decay_steps is None:
        return
    factor = 1 / (1 + step / settings.decay_steps)
    for optimizer, rate in zip(optimizers, (settings.learning_rate, settings.muon_rate), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = rate * factor


def aloe_optimizers(model: nn.Module, settings: AloeSettings) -> list[torch.optim.Optimizer]:
    """Adam for all parameters; or Muon for the matrices (except word embeddings and answer heads) and Adam for the rest.

    On a GPU Adam is one kernel. On a CPU that kernel rounds otherwise than torch's loop, and keys would not show it.
    """
    parameters = dict(model.named_parameters())
    kernel = True if all(p.is_cuda for p in parameters.values()) else None
    if settings.optimizer == "adam":
        return [torch.optim.Adam(parameters.values(), lr=settings.learning_rate, fused=kernel)]
    matrices = [name for name, p in parameters.items() if p.ndim == 2 and "q_embedding" not in name and "_mlp." not in name]
    return [
        muon([parameters[name] for name in matrices], settings.muon_precision, settings.muon_learning_rate, decay=0.0),
        torch.optim.Adam([p for name, p in parameters.items() if name not in matrices], lr=settings.learning_rate, fused=kernel),
    ]


def rate(step: int, total: int, warmup: float) -> float:
    """The published schedule at `step` of `total`: linear from 1/100 to 1 over the warm-up share, then cosine to 1/100."""
    low = 0.01
    rising = warmup * total
    if step < rising:
        return low + (1 - low) * step / rising
    done = (step - rising) / max(total - rising, 1)
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
