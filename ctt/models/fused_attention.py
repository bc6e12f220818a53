"""Attention by PyTorch's fused kernel, for heads of any width."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

KERNEL_WIDTH = 8
"""CUDA's fused kernels take heads whose width is a multiple of this."""


def fused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, p: float, multiple: int) -> Tensor:
    """softmax(q kᵀ / √d + bias) v with dropout p: q (B,H,M,d), k and v (B,H,N,d), bias (B,1,N) → (B,H,M,d).

    Heads are padded with zeros to a width that is a `multiple`; the result is the same.
    """
    b, heads, m, d = q.shape
    if pad := -d % multiple:
        q, k, v = (F.pad(t, (0, pad)) for t in (q, k, v))
    mask = None if bias is None else bias.to(q.dtype)[:, None].expand(b, heads, m, k.shape[2])
    return F.scaled_dot_product_attention(q, k, v, mask, dropout_p=p, scale=d**-0.5)[..., :d]
