"""Optimizers and learning-rate schedules of the world model and of ALOE."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.training.training_settings import WorldModelSettings


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
        made.append(torch.optim.Muon(matrices, lr=settings.muon_rate, weight_decay=decay))
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
    """Adam for all parameters; or Muon for the matrices (except word embeddings and answer heads) and Adam for the rest."""
    parameters = dict(model.named_parameters())
    if settings.optimizer == "adam":
        return [torch.optim.Adam(parameters.values(), lr=settings.learning_rate)]
    matrices = [name for name, p in parameters.items() if p.ndim == 2 and "q_embedding" not in name and "_mlp." not in name]
    return [
        torch.optim.Muon([parameters[name] for name in matrices], lr=settings.muon_learning_rate, weight_decay=0.0),
        torch.optim.Adam([p for name, p in parameters.items() if name not in matrices], lr=settings.learning_rate),
    ]


def rate(step: int, total: int, warmup: float) -> float:
    """The published schedule at `step` of `total`: linear from 1/100 to 1 over the warm-up share, then cosine to 1/100."""
    low = 0.01
    rising = warmup * total
    if step < rising:
        return low + (1 - low) * step / rising
    done = (step - rising) / max(total - rising, 1)
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
