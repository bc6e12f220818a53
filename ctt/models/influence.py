"""The network of source=learned: which slots does the future of a slot need?

Every pair of slots has a gate. The network predicts each slot's future from its own past and from messages of the other
slots that pass through their gates, and every open gate has a price: it stays open where the message lowers the error by
more. What is left open is the graph.

Kept of NOTEARS (Zheng et al., arXiv 1803.01422): structure learning as continuous optimisation, a weighted adjacency
trained by gradient descent on the error of predicting each variable from the others under an L1 price. Kept of DAG-GNN
(Yu et al., arXiv 1904.10098): variables are vectors, and networks before and after the adjacency take the place of the
linear equations. Not kept: the acyclicity constraint of both (influence runs from given to predicted frames, so the graph
unrolled in time has no cycles whatever the adjacency: DYNOTEARS, Pamfil et al., arXiv 2002.00498); one adjacency for all
samples (slots have no fixed identity between scenes; a network reads each window's from its past, as in NRI, Kipf et al.,
arXiv 1802.04687); DAG-GNN's latent variables; thresholding inside the optimisation. Gates are random while training (binary
concrete, Maddison et al., arXiv 1611.00712), since a soft gate could be all but closed and its message all the louder;
the price is on the chance that a gate is open.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TEMPERATURE = 0.5
OPEN = 2.0
WARM = 300
"""Steps over which the price rises to what it is: Adam follows the smallest price as fast as the largest gain."""


class Influence(nn.Module):
    """Gates between slots, and a prediction through them. Nothing of the world model is read or changed by it."""

    def __init__(self, history: int, future: int, slot_width: int, width: int) -> None:
        super().__init__()
        self.future = future
        self.encode = nn.Sequential(nn.Linear(history * slot_width, width), nn.GELU(), nn.Linear(width, width))
        self.gate_to, self.gate_from = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, 1)
        self.message_to, self.message_from = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.message = nn.Linear(width, width)
        change = nn.Linear(width, future * slot_width)
        self.decode = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), change)
        nn.init.zeros_(change.weight)  # messages harm nothing before they say something, and gates begin open: one that
        nn.init.zeros_(change.bias)  # closed early would never learn what it keeps out
        nn.init.constant_(self.gate.bias, OPEN)
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros(()))

    def gates(self, history: Tensor) -> Tensor:
        """How probably each gate is open, (B,S,S) of history (B,H,S,D), rows = receiving slots; 1 for a slot's own."""
        return self._open(self._logits(self._encoded(history)).sigmoid())

    def loss(self, error: Tensor, gates: Tensor, price: float) -> Tensor:
        """What a training step lowers; counts the step."""
        self.steps += 1
        return error + price * (self.steps / WARM).clamp(max=1) * gates

    def error(self, window: Tensor, weight: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Of window (B,T,S,D): the squared error of its future cells, weighted by `weight` (B,P,S), and the mean number
        of open gates a slot. noise (B,S,S), uniform in (0, 1), opens and closes the gates."""
        given = window.shape[1] - self.future
        encoded = self._encoded(window[:, :given])
        logits = self._logits(encoded)
        gates = ((logits + noise.log() - (-noise).log1p()) / TEMPERATURE).sigmoid()
        others = 1 - torch.eye(gates.shape[-1], device=gates.device)
        sent = self.message(F.gelu(self.message_to(encoded)[:, :, None] + self.message_from(encoded)[:, None]))
        heard = ((gates * others)[..., None] * sent).sum(2)
        change = self.decode(torch.cat([encoded, heard], -1)).unflatten(-1, (self.future, -1)).transpose(1, 2)
        error = (window[:, given - 1 : given] + change - window[:, given:]).square().mean(-1)
        return (error * weight).sum(), (logits.sigmoid() * others).sum(-1).mean()

    def _encoded(self, history: Tensor) -> Tensor:
        encoded: Tensor = self.encode(history.transpose(1, 2).flatten(2))
        return encoded

    def _logits(self, encoded: Tensor) -> Tensor:
        pairs = F.gelu(self.gate_to(encoded)[:, :, None] + self.gate_from(encoded)[:, None])
        logits: Tensor = self.gate(pairs).squeeze(-1)
        return logits

    @staticmethod
    def _open(chances: Tensor) -> Tensor:
        own = torch.eye(chances.shape[-1], dtype=torch.bool, device=chances.device)
        return chances.masked_fill(own, 1.0)
