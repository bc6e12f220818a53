"""The masked slot predictor: a transformer over the slots of a window that predicts masked slots and future frames.

Architecture and tensor names are those of the published checkpoints of C-JEPA (arXiv 2602.11389).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctt.models.compilable import Compilable
from ctt.models.fused_attention import KERNEL_WIDTH, fused
from ctt.models.model_settings import PredictorSettings

Rows = Tensor | slice
"""Which of the N tokens: indices, (R,) the same for the whole batch or (B,R); or a contiguous range."""
Drop = Callable[[Tensor], Tensor]


class Attention(nn.Module):
    """Multi-head self-attention with the parameters of torch's MultiheadAttention, whose weights can be read."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads must divide the slot width {width}, got {heads}")
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, rows: Rows | None, drop: Drop | None, read: Callable[[Tensor, Tensor], None] | None) -> Tensor:
        """x (B,N,D), queries only at `rows` (None: all) → (B,R,D).

        `read` is called with the attention weights (B,heads,R,N) before and after dropout.
        """
        width, heads = x.shape[-1], self.heads
        if rows is None:
            query, key, value = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        else:
            query = F.linear(take(x, rows), self.in_proj_weight[:width], self.in_proj_bias[:width])
            key, value = F.linear(x, self.in_proj_weight[width:], self.in_proj_bias[width:]).chunk(2, -1)
        sizes = (heads, width // heads)
        query, key, value = (torch.unflatten(t, -1, sizes).transpose(1, 2) for t in (query, key, value))
        if drop is None and read is None and x.is_cuda:
            mixed = fused(query, key, value, None, 0.0, KERNEL_WIDTH)
        else:
            weights = (query * (width // heads) ** -0.5 @ key.transpose(-1, -2)).softmax(-1)
            kept = drop(weights) if drop is not None else weights
            if read is not None:
                read(weights, kept)
            mixed = kept @ value
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


class Transformer(nn.Module):
    """`depth` layers x + attention(x), x + feed_forward(x) (only the latter normalised before), then a LayerNorm."""

    def __init__(self, width: int, depth: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    Attention(width, heads),
                    nn.Sequential(  # numbers 3 and 5 of the published modules are dropouts; `forward` applies them
                        nn.LayerNorm(width),
                        nn.Linear(width, mlp_width),
                        nn.GELU(),
                        nn.Identity(),
                        nn.Linear(mlp_width, width),
                    ),
                ]
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, rows: Rows | None, drop: Drop | None, read: Callable[[int, Tensor, Tensor], None] | None
    ) -> Tensor:
        """x (B,N,D) → (B,R,D): the last layer computes only `rows` of its N tokens (None: all)."""
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            attention, feed_forward = layer.children()
            norm, widen, activate, _, narrow = feed_forward.children()
            wanted = rows if number == last else None
            reader = None if read is None else (lambda w, k, n=number: read(n, w, k))
            mixed = attention(x, wanted, drop, reader)
            x = (x if wanted is None else take(x, wanted)) + mixed
            hidden = activate(widen(norm(x)))
            hidden = narrow(hidden if drop is None else drop(hidden))
            x = x + (hidden if drop is None else drop(hidden))
        out: Tensor = self.norm(x)
        return out


class Predictor(Compilable):
    """Predicts a window's T·S tokens (frames × slots) from its history; T = history + predicted frames."""

    def __init__(self, settings: PredictorSettings, width: int) -> None:
        super().__init__()
        self.history, self.future = settings.history_size, settings.num_preds
        self.heads, self.mlp_width = settings.heads, settings.mlp_width
        frames = self.history + self.future
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.time_pos_embed = nn.Parameter(torch.randn(1, frames, 1, width))
        self.id_projector = nn.Linear(width, width)
        self.transformer = Transformer(width, settings.depth, settings.heads, settings.mlp_width)
        self.to_out = nn.Linear(width, width)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(
        self,
        history: Tensor,
        masked: Tensor | None = None,
        *,
        rows: Rows | None = None,
        drop: Drop | None = None,
        read: Callable[[int, Tensor, Tensor], None] | None = None,
    ) -> Tensor:
        """History (B,H,S,D), masked slots bool (B,S) (None: none) → predicted tokens (B,R,D).

        Masked slots keep frame 0 as their anchor. rows: the tokens t·S+s to predict (None: all T·S).
        drop: dropout (None: none, as in evaluation). read(layer, before, after): called with the attention weights
        (B,heads,R,T·S) of every layer, before and after dropout; the last layer has R rows, the others T·S.
        """
        batch, _, slots, width = history.shape
        frames = self.history + self.future
        query = self.mask_token[:, None] + self.time_pos_embed + self.id_projector(history[:, :1])
        given = history + self.time_pos_embed[:, : self.history]
        if masked is not None and self.history > 1:
            later = torch.where(masked[:, None, :, None], query[:, 1 : self.history], given[:, 1:])
            given = torch.cat([given[:, :1], later], 1)
        grid = torch.cat([given, query[:, self.history :]], 1)
        out: Tensor = self.to_out(self.transformer(grid.view(batch, frames * slots, width), rows, drop, read))
        return out

    def future_rows(self, slots: int) -> slice:
        """The P·S tokens of the predicted frames, frame by frame."""
        return slice(self.history * slots, (self.history + self.future) * slots)

    def dropout_shapes(self, batch: int, slots: int, rows: int) -> list[tuple[int, ...]]:
        """The shapes of the tensors that `drop` gets in one pass, in order; rows: how many tokens are predicted."""
        tokens = (self.history + self.future) * slots
        count, width = len(self.transformer.layers), self.to_out.in_features
        shapes: list[tuple[int, ...]] = []
        for number in range(count):
            wanted = rows if number == count - 1 else tokens
            shapes += [(batch, self.heads, wanted, tokens), (batch, wanted, self.mlp_width), (batch, wanted, width)]
        return shapes

    def predict(self, history: Tensor) -> Tensor:
        """Inference: history (B,H,S,D) with nothing masked → the predicted frames (B,P,S,D)."""
        slots = history.shape[2]
        return torch.unflatten(self(history, rows=self.future_rows(slots)), 1, (self.future, slots))


def take(x: Tensor, rows: Rows) -> Tensor:
    """Rows of x (B,N,D) → (B,R,D); a view where they are a range."""
    if isinstance(rows, slice) or rows.ndim == 1:
        return x[:, rows]
    return x.gather(1, rows[..., None].expand(-1, -1, x.shape[-1]))
