"""Which slots a training step masks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ctt.models.model_settings import MaskingSettings


def draw_masked(settings: MaskingSettings, count: int, batch: int, slots: int, generator: torch.Generator) -> Tensor:
    """The masked slots of one step, bool (B,S) with `count` True in every row.

    draw=fixed takes the first `count` of numpy's legacy permutation of the slots, which gives [0], [0,1], [0,1,5],
    [0,1,5,2] for the published seed 42. Raises ValueError if count > slots.
    """
    if not 0 <= count <= slots:
        raise ValueError(f"num_masked_slots must lie in 0..{slots}, got {count}")
    if settings.draw == "sample":
        order = torch.rand(batch, slots, generator=generator).argsort(1)
    elif settings.draw == "batch":
        order = torch.rand(1, slots, generator=generator).argsort(1).expand(batch, slots)
    else:
        fixed = np.random.RandomState(settings.seed).permutation(slots)
        order = torch.from_numpy(fixed)[None].expand(batch, slots)
    return torch.zeros(batch, slots, dtype=torch.bool).scatter_(1, order[:, :count], True)
