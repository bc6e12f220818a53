"""Which slots a training step hides from the world model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ctt.settings import Rule, Settings, setting


@dataclass
class MaskingSettings(Settings):
    """How the masked slots of a step are chosen."""

    draw: str = setting(
        "batch",
        "fixed: the same slots in every step (the published code re-seeds its generator on every call, so that at M=2 "
        "slots 2 to 6 are never masked); batch: drawn each step, one choice for the batch; sample: one for each window",
        choices=("fixed", "batch", "sample"),
    )
    seed: int = setting(
        42,
        "the seed the published code restarts from; only draw=fixed reads it, otherwise the run's seed decides",
        minimum=0,
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("seed",),
            "only masking.draw=fixed restarts from a seed of its own",
            lambda masking: masking.draw != "fixed",
        ),
    )


# Of a training (`TrainingSettings`).
RULES = (Rule(("world_model.masking",), "no slot is masked (num_masked_slots=0)", lambda t: t.num_masked_slots == 0),)


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
