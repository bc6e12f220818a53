"""The network of source=learned: whom does it take to explain where a slot's own past fails to predict it?

A slot is predicted from its own past alone. How large the squared error will be is then explained as a sum of parts: one
for the slot itself, and one for every other slot, which depends on both and on how they differ (which a distance and an
approach do, wherever they are). Parts are ≥ 0, those of others have a price, and each one's share of the sum is the graph.
Nothing is known of a slot but its numbers, on any data. That a slot is empty or its object out of view, and so takes part in
nothing however near it seems, is seen in the slots themselves: with the difference alone to go by, such pairs looked like
those that touch, and the graph stayed empty unless they were left out by what the simulator knows.

Kept of NOTEARS (Zheng et al., arXiv 1803.01422): structure learning as continuous optimisation, a weighted adjacency found
by gradient descent on how well each variable is explained from the others, under an L1 price. Kept of DAG-GNN (Yu et al.,
arXiv 1904.10098): variables are vectors, and networks take the place of linear equations. Not kept: the acyclicity
constraint of both (influence runs from given to predicted frames, so the graph unrolled in time has no cycles whatever the
adjacency: DYNOTEARS, Pamfil et al., arXiv 2002.00498); one adjacency for all samples (slots have no fixed identity between
scenes; a network reads each window's from its past, as in NRI, Kipf et al., arXiv 1802.04687); DAG-GNN's latent variables;
and predicting through the adjacency. How large an influence is shows long before where it leads: networks that had to learn
what passes from slot to slot (a collision) found nothing of it in the steps in which this one finds who collides. What it
can't see is an influence that is the same in every window: it counts as the slot's own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FLOOR = 0.01
"""The least expected error, as a share of the mean: what is predicted exactly has a logarithm all the same."""
SMALL = -2.0
"""Where the parts of others begin, before softplus."""


class Influence(nn.Module):
    """Predicts slots from themselves and explains the errors. Nothing of the world model is read or changed by it."""

    def __init__(self, history: int, future: int, slot_width: int, width: int, projected: int) -> None:
        """width: of the hidden layers; projected: numbers of each slot that a pair is judged by."""
        super().__init__()
        numbers = history * slot_width
        self.future = future
        self.course = _network(numbers, width, width, future * slot_width)
        self.own = _network(numbers, width, 1)
        self.project = nn.Linear(numbers, projected, bias=False)
        self.others = _network(4 * projected, width, width, 1)
        for weight in self.course[-1].parameters():  # at first slots are expected to stay as they are
            nn.init.zeros_(weight)

    def parts(self, history: Tensor) -> Tensor:
        """What each slot (column) adds to the expected squared error of each (row), (B,S,S) of history (B,H,S,D), in units
        of the mean error; the diagonal is a slot's own part."""
        slots = history.transpose(1, 2).flatten(2)
        seen = self.project(slots)
        row, column = torch.broadcast_tensors(seen[:, :, None], seen[:, None])
        differ = row - column
        pairs = torch.cat([differ.square(), differ, row, column], -1)  # sums of the last three, but learnt much sooner
        others = F.softplus(self.others(pairs).squeeze(-1) + SMALL)
        own = F.softplus(self.own(slots).squeeze(-1))
        same = torch.eye(slots.shape[1], dtype=torch.bool, device=slots.device)
        return torch.where(same, own[:, :, None], others)

    def terms(self, window: Tensor) -> dict[str, Tensor]:
        """Of window (B,T,S,D): "error", the squared error of predicting each slot from itself over that of its staying as
        it is; "surprise", the negative log-likelihood of these errors (squares of normal numbers) given their parts;
        "others", the parts of others, a slot's mean."""
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
