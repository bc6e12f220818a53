"""The world model, its losses and its rollout, implemented literally: slow, nothing batched, torch's own layers.

Nothing of ctt is imported. Everything is computed as the method is described, with loops over slots and samples, so that
it can be compared with the description; the tests compare the fast code with it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LiteralPredictor(nn.Module):
    def __init__(self, history: int, future: int, depth: int, heads: int, mlp_width: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.history, self.future = history, future
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.time_pos_embed = nn.Parameter(torch.randn(1, history + future, 1, width))
        self.id_projector = nn.Linear(width, width)
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True),
                    nn.Sequential(
                        nn.LayerNorm(width),
                        nn.Linear(width, mlp_width),
                        nn.GELU(),
                        nn.Dropout(dropout),
                        nn.Linear(mlp_width, width),
                        nn.Dropout(dropout),
                    ),
                ]
            )
            for _ in range(depth)
        )
        self.transformer.norm = nn.LayerNorm(width)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Tensor, masked: list[list[int]]) -> tuple[Tensor, list[Tensor]]:
        """x (B,T or H,S,D); masked: the hidden slots of each sample. Returns the whole grid (B,T,S,D) and every layer's
        head-averaged attention (B,T·S,T·S)."""
        batch, _, slots, width = x.shape
        frames = self.history + self.future
        samples = []
        for b in range(batch):
            embedded = []
            for t in range(frames):
                for s in range(slots):
                    visible = t == 0 or (t < self.history and s not in masked[b])
                    if visible:
                        token = x[b, t, s] + self.time_pos_embed[0, t, 0]
                    else:
                        token = self.mask_token[0, 0] + self.time_pos_embed[0, t, 0] + self.id_projector(x[b, 0, s])
                    embedded.append(token)
            samples.append(torch.stack(embedded))
        tokens = torch.stack(samples)
        attentions = []
        for attend, feed_forward in self.transformer.layers:
            mixed, weights = attend(tokens, tokens, tokens, need_weights=True, average_attn_weights=True)
            attentions.append(weights)
            tokens = tokens + mixed
            tokens = tokens + feed_forward(tokens)
        tokens = self.to_out(self.transformer.norm(tokens))
        return tokens.view(batch, frames, slots, width), attentions


def mse(a: Tensor, b: Tensor) -> Tensor:
    return ((a - b) ** 2).mean()


def prediction_terms(model: LiteralPredictor, x: Tensor, masked: list[list[int]]) -> tuple[Tensor, Tensor]:
    """The masked-history and the future term."""
    predicted, _ = model(x, masked)
    h = model.history
    future = mse(predicted[:, h:], x[:, h:])
    if not masked[0]:
        return torch.zeros_like(future), future
    hidden = torch.stack([torch.stack([predicted[b, :h, s] for s in masked[b]]) for b in range(len(x))])
    truth = torch.stack([torch.stack([x[b, :h, s] for s in masked[b]]) for b in range(len(x))])
    return mse(hidden, truth), future


def slot_graph(attention: Tensor, history: int, slots: int, frames: str) -> Tensor:
    """A (B,S,S) from token attention (B,N,N): row s is the query of slot s in the first future frame."""
    batch, tokens, _ = attention.shape
    total = tokens // slots
    graph = torch.zeros(batch, slots, slots, dtype=attention.dtype)
    for s in range(slots):
        for j in range(slots):
            weights = torch.stack([attention[:, history * slots + s, t * slots + j] for t in range(total)])
            graph[:, s, j] = weights.mean(0) if frames == "mean" else weights.sum(0)
    return graph.detach()


def composed_attention(attentions: list[Tensor]) -> Tensor:
    """Attention rollout: the product over layers of (A + I)/2, the last layer on the left."""
    product = torch.eye(attentions[0].shape[-1], dtype=attentions[0].dtype)
    for attention in attentions:
        product = ((attention + torch.eye(attention.shape[-1], dtype=attention.dtype)) / 2) @ product
    return product


def read_graph(model: LiteralPredictor, x: Tensor, masked: list[list[int]], frames: str, source: str) -> Tensor:
    _, attentions = model(x, masked)
    attention = attentions[-1] if source == "attention" else composed_attention(attentions)
    return slot_graph(attention, model.history, x.shape[2], frames)


def invariance_batch(model, x, masked, removed: int, threshold, frames, source="attention") -> Tensor:
    """One slot for the whole batch; `masked` is the same for every sample."""
    hidden = masked[0]
    graph = read_graph(model, x, masked, frames, source).mean(0)
    clean, _ = model(x, masked)
    view, _ = model(x, [[*hidden, removed]] * len(x))
    losses = []
    for j in range(x.shape[2]):
        if j != removed and j not in hidden and graph[j, removed] < threshold:
            losses.append(mse(view[:, model.history :, j], clean[:, model.history :, j].detach()))
    return torch.stack(losses).mean() if losses else torch.zeros((), dtype=x.dtype)


def sufficiency_batch(model, x, masked, target: int, threshold, frames, source="attention") -> Tensor:
    graph = read_graph(model, x, masked, frames, source).mean(0)
    hidden = [j for j in range(x.shape[2]) if j != target and graph[target, j] < threshold]
    if not hidden:
        return torch.zeros((), dtype=x.dtype)
    view, _ = model(x, [hidden] * len(x))
    return mse(view[:, model.history :, target], x[:, model.history :, target])


def invariance_sample(model, x, masked, removed: list[int], threshold, frames, source="attention") -> Tensor:
    """Each sample has its own graph and slot; the mean is over the non-neighbours of all samples."""
    graph = read_graph(model, x, masked, frames, source)
    losses = []
    for b in range(len(x)):
        one, i = x[b : b + 1], removed[b]
        clean, _ = model(one, [masked[b]])
        view, _ = model(one, [[*masked[b], i]])
        for j in range(x.shape[2]):
            if j != i and j not in masked[b] and graph[b, j, i] < threshold:
                losses.append(mse(view[0, model.history :, j], clean[0, model.history :, j].detach()))
    return torch.stack(losses).mean() if losses else torch.zeros((), dtype=x.dtype)


def sufficiency_sample(model, x, masked, target: list[int], threshold, frames, source="attention") -> Tensor:
    graph = read_graph(model, x, masked, frames, source)
    losses = []
    for b in range(len(x)):
        one, k = x[b : b + 1], target[b]
        hidden = [j for j in range(x.shape[2]) if j != k and graph[b, k, j] < threshold]
        if hidden:
            view, _ = model(one, [hidden])
            losses.append(mse(view[0, model.history :, k], one[0, model.history :, k]))
    return torch.stack(losses).mean() if losses else torch.zeros((), dtype=x.dtype)


def literal_rollout(model: LiteralPredictor, slots: Tensor, frameskip: int, frames: int) -> Tensor:
    """slots (V,F,S,D) → (V,frames,S,D), one offset and one video at a time."""
    videos, given = slots.shape[:2]
    out = torch.zeros(videos, frames, *slots.shape[2:], dtype=slots.dtype)
    for v in range(videos):
        for offset in range(frameskip):
            start = given - model.history * frameskip + offset
            sequence = [slots[v, start + n * frameskip] for n in range(model.history)]
            made: list[Tensor] = []
            while offset + len(made) * frameskip < frames:
                history = torch.stack(sequence[-model.history :])[None]
                predicted, _ = model(history, [[]])
                for frame in predicted[0, model.history :]:
                    made.append(frame)
                    sequence.append(frame)
            for n, frame in enumerate(made):
                if offset + n * frameskip < frames:
                    out[v, offset + n * frameskip] = frame
    return out
