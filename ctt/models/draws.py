"""The random choices of a training step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ctt.models.losses.loss_term import LossTerm


@dataclass(frozen=True)
class Draws:
    """masked bool (B,S); terms: what each loss term drew, by its name: for invariance the removed slot (B,), for sufficiency
    the predicted one (B,); sent: `hidden`, where it was found on the host."""

    masked: Tensor
    terms: Mapping[str, Tensor | None] = field(default_factory=dict)
    sent: Tensor | None = None

    @cached_property
    def hidden(self) -> Tensor:
        """The numbers of the masked slots (B,M), in order, M in every row. On a device, finding them waits for it."""
        return self.masked.nonzero()[:, 1].view(len(self.masked), -1) if self.sent is None else self.sent

    def part(self, part: slice) -> Draws:
        """The draws of the windows `part` of the batch."""
        terms = {name: None if x is None else x[part] for name, x in self.terms.items()}
        return Draws(self.masked[part], terms, self.hidden[part])


def draw_slots(masked: Tensor, terms: Iterable[LossTerm], scope: str, rng: Callable[[str], torch.Generator]) -> Draws:
    """Draws what the acting terms need, each from its own generator `rng(purpose)`; an inactive term draws nothing."""
    return Draws(masked, {t.name: t.draw(masked, scope, rng(t.purpose)) for t in terms if t.purpose is not None})
