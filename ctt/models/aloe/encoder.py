"""ALOE's transformer: pre-LN layers, the last for CLS alone; the fastest attention for each case; and dropout.

Shape letters as in `aloe.model`: B sequences, N tokens, E width, H heads; here M query tokens and d the width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.compilable import Compilable
from ctt.models.fused_attention import KERNEL_WIDTH, fused

FEW_KEYS = 16
"""With fewer keys (tokens=trajectory with words=vector or film: 8) the fused kernel is faster in float32, else in bf16."""

RECURRING = (16, 8)
"""Multiples to which sequences and tokens are rounded up for CUDA graphs: 159 sizes in 240 batches of aloe=default become 5."""


class Layer(nn.Module):
    """One encoder layer, x + attention(LN(x)) then x + feed-forward(LN(x)); parameters named as in nn.TransformerEncoderLayer."""

    def __init__(self, settings: AloeSettings) -> None:
        super().__init__()
        width = settings.width
        self.self_attn = nn.MultiheadAttention(width, settings.heads, batch_first=True)
        self.linear1 = nn.Linear(width, settings.ffn)
        self.linear2 = nn.Linear(settings.ffn, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.heads = settings.heads
        self.dropout = settings.dropout
        self.cheap = settings.dropout_kind == "cheap"

    def forward(self, x: Tensor, bias: Tensor | None, first_only: bool) -> Tensor:
        """x (B,N,E), bias (B,1,N) or None → (B,N,E), or (B,1,E) of the first token alone."""
        drop = self._drop
        h = self.norm1(x)
        if first_only:
            x = x[:, :1]
        x = x + drop(self._attention(h, bias, first_only))
        h = drop(F.relu(self.linear1(self.norm2(x)), inplace=True))
        return x + drop(self.linear2(h))

    def _attention(self, h: Tensor, bias: Tensor | None, first_only: bool) -> Tensor:
        attn = self.self_attn
        b, n, e = h.shape
        m, d = (1 if first_only else n), e // self.heads
        if first_only:
            q_weight, kv_weight = attn.in_proj_weight.split([e, 2 * e])
            q_bias, kv_bias = attn.in_proj_bias.split([e, 2 * e])
            q = F.linear(h[:, :1], q_weight, q_bias).view(b, 1, 1, self.heads, d)
            k, v = F.linear(h, kv_weight, kv_bias).view(b, n, 2, self.heads, d).permute(2, 0, 3, 1, 4)
            q = q.permute(2, 0, 3, 1, 4)[0]
        else:
            q, k, v = F.linear(h, attn.in_proj_weight, attn.in_proj_bias).view(b, n, 3, self.heads, d).permute(2, 0, 3, 1, 4)
        p = self.dropout if self.training else 0.0
        out = attend(q, k, v, bias, p, self.cheap)
        projected: Tensor = attn.out_proj(out.transpose(1, 2).reshape(b, m, e))
        return projected

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, self.cheap) if self.training and self.dropout else x


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, p: float, cheap: bool) -> Tensor:
    """softmax(q kᵀ / √d + bias) v with dropout on the weights: q (B,H,M,d), k and v (B,H,N,d), bias (B,1,N) → (B,H,M,d)."""
    if fused_is_faster(q, k.shape[2], p, cheap):
        return fused(q, k, v, bias, p, KERNEL_WIDTH if q.is_cuda else 1)
    return unfused(q, k, v, bias, p, cheap)


def unfused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, p: float, cheap: bool) -> Tensor:
    """`attend` by two batched products with a softmax between them."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if bias is not None:
        scores = scores + bias[:, None].to(scores.dtype)
    weights = scores.softmax(-1)
    if p:
        weights = dropout(weights, p, cheap)
    out: Tensor = weights.to(v.dtype) @ v
    return out


def fused_is_faster(q: Tensor, keys: int, p: float, cheap: bool) -> bool:
    """Whether scaled_dot_product_attention beats softmax and two batched products.

    CUDA: always, except with cheap dropout masks. CPU: the kernel has no dropout; without it, `make bench ONLY=attend`
    measures (time of unfused over fused; one thread with AVX-512; 8, 30 and 190 keys): forward alone 1.1, 0.7, 2.9 in float32
    and 1.0, 1.4, 1.6 in bf16; with gradients 1.1, 0.7, 2.1 in float32 and 0.5, 0.2, 0.3 in bf16. The last bits of results
    depend on the choice: changing it needs a new version of the stage `vqa`.
    """
    if q.is_cuda:
        return not (p and cheap)
    if p:
        return False
    if torch.is_grad_enabled() and q.requires_grad:
        return q.dtype == torch.float32 and not FEW_KEYS <= keys < 150
    if q.dtype == torch.float32:
        return not FEW_KEYS <= keys < 100
    return keys >= FEW_KEYS


def dropout(x: Tensor, p: float, cheap: bool) -> Tensor:
    """x with a share p zeroed and the rest scaled up; `cheap` compares 16 random bits with p, rounded to 2^-16."""
    if not cheap:
        return F.dropout(x, p)
    cut = round(p * 65536)
    drawn = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device).random_(-(2**63), None)
    kept = drawn.view(torch.int16)[: x.numel()].view(x.shape) >= cut - 32768
    return x * (kept * (65536 / (65536 - cut))).to(x.dtype)


def rounded_up(x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """x (B,N,E) and bias (B,1,N) with empty sequences up to a multiple of RECURRING[0], and tokens that none attends to up to
    one of RECURRING[1]: pieces of a batch differ a little in size, and every size needs a CUDA graph of its own."""
    b, n, _ = x.shape
    sequences, tokens = (-size % multiple for size, multiple in zip((b, n), RECURRING, strict=True))
    if tokens:
        bias = x.new_zeros(b, 1, n) if bias is None else bias
        bias = F.pad(bias, (0, tokens), value=-torch.inf)
    if bias is not None:
        bias = F.pad(bias, (0, 0, 0, 0, 0, sequences))
    return F.pad(x, (0, 0, 0, tokens, 0, sequences)), bias


class AloeEncoder(Compilable):
    """Learnt positions (initially zero) and the layers; no final LayerNorm."""

    def __init__(self, settings: AloeSettings, positions: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.zeros(1, positions, settings.width))
        self.layers = nn.ModuleList(Layer(settings) for _ in range(settings.layers))
        if settings.equal_layers:
            for layer in self.layers[1:]:
                layer.load_state_dict(self.layers[0].state_dict())

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """As `forward`; where CUDA graphs replay calls, in sizes that recur."""
        found: Tensor = super().__call__(*(rounded_up(x, bias) if self.replayed else (x, bias)))
        return found[: len(x)]

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Tokens (B,N,E), CLS first, positions already added; bias (B,1,N) → CLS (B,E)."""
        for i, layer in enumerate(self.layers):
            x = layer(x, bias, first_only=i == len(self.layers) - 1)
        return x[:, 0]
