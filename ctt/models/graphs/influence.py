"""The network of source=learned: which other slots explain the errors of predicting a slot from its own past?

A slot is predicted from its own past alone. The expected squared error is then modelled as a sum of parts: one for the slot
itself, and one for every other slot, which depends on both slots and on their difference (as distance and relative velocity
do). Parts are ≥ 0, the parts of other slots are penalised, and each one's share of the sum is the graph. The slots are its
only input. They show whether a slot is empty or its object out of view, so that it interacts with nothing however close it
seems: from the difference alone, such pairs looked like touching ones, and the graph stayed empty unless the simulator's
truth excluded them.

Taken from NOTEARS (Zheng et al., arXiv 1803.01422): structure learning as continuous optimisation; gradient descent on how
well each variable is explained by the others, with an L1 penalty, finds a weighted adjacency. From DAG-GNN (Yu et al.,
arXiv 1904.10098): variables are vectors, and networks replace linear equations. Not taken: the acyclicity constraint of both
(influence runs from given to predicted frames, so the graph unrolled in time has no cycles for any adjacency: DYNOTEARS,
Pamfil et al., arXiv 2002.00498); one adjacency for all samples (slots have no fixed identity between scenes; the network
reads each window's adjacency from its past, as NRI does, Kipf et al., arXiv 1802.04687); DAG-GNN's latent variables; and
prediction through the adjacency. The size of an influence is learnt much sooner than its effect: networks that had to learn
what one slot does to another (a collision) learnt nothing in the steps in which this one finds which slots collide.
Limitation: an influence that is the same in every window counts as the slot's own part.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FLOOR = 0.01
"""The smallest expected error, as a share of the mean, so that exact predictions have a finite logarithm."""
SMALL = -2.0
"""Initial value of the parts of other slots, before softplus."""


class Influence(nn.Module):
    """Predicts each slot from itself and explains the errors. It neither reads nor changes the world model."""

    def __init__(self, history: int, future: int, slot_width: int, width: int, projected: int) -> None:
        """width: of the hidden layers; projected: dimensions of the projected slots that a pair is judged by."""
        super().__init__()
        numbers = history * slot_width
        self.future = future
        self.course = _network(numbers, width, width, future * slot_width)
        self.own = _network(numbers, width, 1)
        self.project = nn.Linear(numbers, projected, bias=False)
        self.others = _network(4 * projected, width, width, 1)
        for weight in self.course[-1].parameters():  # the initial prediction is no change
            nn.init.zeros_(weight)

    def parts(self, history: Tensor) -> Tensor:
        """History (B,H,S,D) → (B,S,S): what each slot (column) adds to the expected squared error of each slot (row), in
        units of the mean error; the diagonal is a slot's own part."""
        slots = history.transpose(1, 2).flatten(2)
        seen = self.project(slots)
        count = slots.shape[1]
        row, column = seen[:, :, None].expand(-1, -1, count, -1), seen[:, None].expand(-1, count, -1, -1)
        differ = row - column
        pairs = torch.cat([differ.square(), differ, row, column], -1)  # `differ` is redundant but makes training faster
        others = F.softplus(self.others(pairs).squeeze(-1) + SMALL)
        own = F.softplus(self.own(slots).squeeze(-1))
        same = torch.eye(count, dtype=torch.bool, device=slots.device)
        return torch.where(same, own[:, :, None], others)

    def terms(self, window: Tensor) -> dict[str, Tensor]:
        """Of window (B,T,S,D): "error", the squared error of predicting each slot from itself, divided by that of copying
        the last frame; "surprise", the negative log-likelihood of these errors (squared normal variables) given their parts;
        "others", the summed parts of other slots, averaged over slots."""
        given = window.shape[1] - self.future
        history, change = window[:, :given], window[:, given:] - window[:, given - 1 : given]
        course = self.course(history.transpose(1, 2).flatten(2)).unflatten(-1, (self.future, -1)).transpose(1, 2)
        squares = (course - change).square().mean((1, 3))  # (B,S)
        tiny = torch.finfo(window.dtype).tiny
        error = squares.detach() / squares.detach().mean().clamp(min=tiny)
        parts = self.parts(history)
        expected = parts.sum(-1) + FLOOR
        return {
            "error": squares.mean() / change.square().mean().clamp(min=tiny),
            "surprise": (expected.log() + error / expected).mean(),
            "others": (parts.sum(-1) - parts.diagonal(dim1=1, dim2=2)).mean(),
        }


def _network(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number, (given, made) in enumerate(zip(widths, widths[1:], strict=False)):
        layers += [nn.GELU()] if number else []
        layers.append(nn.Linear(given, made))
    return nn.Sequential(*layers)
