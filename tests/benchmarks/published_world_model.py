"""The world model's step and rollout as the published code computes them: batched, but nothing shared or left out.

Five forwards and three backwards a step with both losses; every forward computes the whole grid with
nn.MultiheadAttention, whose weights are asked for; one rollout call per offset.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.literal_world_model import LiteralPredictor


class PublishedPredictor(LiteralPredictor):
    """The literal one's tensors, computed on for a batch at a time."""

    def forward(self, x: Tensor, masked: list[int]) -> tuple[Tensor, Tensor]:
        """x (B,T or H,S,D), the same masked slots for all → the grid (B,T,S,D) and the last layer's attention (B,N,N)."""
        batch, _, slots, width = x.shape
        frames = self.history + self.future
        anchor = self.id_projector(x[:, 0])
        grid = (self.mask_token[:, None] + self.time_pos_embed + anchor[:, None]).clone()
        grid[:, 0] = x[:, 0] + self.time_pos_embed[:, 0]
        seen = [slot for slot in range(slots) if slot not in masked]
        for t in range(1, self.history):
            grid[:, t, seen] = x[:, t, seen] + self.time_pos_embed[:, t]
        tokens = grid.reshape(batch, frames * slots, width)
        weights = tokens
        for attend, feed_forward in self.transformer.layers:
            mixed, weights = attend(tokens, tokens, tokens)
            tokens = mixed + tokens
            tokens = feed_forward(tokens) + tokens
        return self.to_out(self.transformer.norm(tokens)).view(batch, frames, slots, width), weights

    def graph(self, weights: Tensor, slots: int) -> Tensor:
        """A (S,S): the batch's mean, a mean over the window's frames."""
        rows = weights[:, self.history * slots : (self.history + 1) * slots]
        return rows.unflatten(-1, (-1, slots)).mean(2).mean(0)


def plain_loss(model: PublishedPredictor, x: Tensor, masked: list[int]) -> Tensor:
    h = model.history
    predicted, _ = model(x, masked)
    return F.mse_loss(predicted[:, :h, masked], x[:, :h, masked]) + F.mse_loss(predicted[:, h:], x[:, h:])


def invariance(model: PublishedPredictor, x: Tensor, masked: list[int], removed: int, threshold: float) -> Tensor:
    slots, h = x.shape[2], model.history
    with torch.no_grad():
        clean, weights = model(x, masked)
        graph = model.graph(weights, slots)
    others = [j for j in range(slots) if j != removed and j not in masked and graph[j, removed] < threshold]
    if not others:
        return x.new_zeros(())
    view, _ = model(x, [*masked, removed])
    return torch.stack([F.mse_loss(view[:, h:, j], clean[:, h:, j]) for j in others]).mean()


def sufficiency(model: PublishedPredictor, x: Tensor, masked: list[int], target: int, threshold: float) -> Tensor:
    slots, h = x.shape[2], model.history
    with torch.no_grad():
        graph = model.graph(model(x, masked)[1], slots)
    hidden = [j for j in range(slots) if j != target and graph[target, j] < threshold]
    if not hidden:
        return x.new_zeros(())
    view, _ = model(x, hidden)
    return F.mse_loss(view[:, h:, target], x[:, h:, target])


def published_rollout(model: PublishedPredictor, slots: Tensor, frameskip: int, frames: int) -> Tensor:
    """slots (V,F,S,D) → (V,frames,S,D). A call counts as one frame, however many it predicts."""
    h, given = model.history, slots.shape[1]
    offsets = []
    for offset in range(frameskip):
        needed = -(-frames // frameskip)
        window = slots[:, given - h * frameskip + offset :: frameskip][:, :h]
        made: list[Tensor] = []
        while len(made) < needed:
            predicted, _ = model(window, [])
            made.append(predicted[:, h:])
            window = torch.cat([window, predicted[:, h:]], 1)[:, -h:]
        offsets.append(torch.cat(made, 1)[:, :needed])
    return torch.stack(offsets, 2).flatten(1, 2)[:, :frames]
