"""ALOE's attention by PyTorch's kernel and by a softmax between two products: what `fused_is_faster` decides by on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ctt.models.aloe.encoder import unfused
from ctt.models.fused_attention import fused
from tests.benchmarks.harness import Comparison, Ratio, benchmark

SEQUENCES, HEADS, WIDTH = 32, 8, 18
KEYS = (8, 30, 190)
"""CLS and a token a slot (words=vector); the same and words; the published tokens without unused words."""
CASES = {
    **{f"attend_forward_{keys}": (keys, torch.float32, False) for keys in KEYS},
    **{f"attend_forward_{keys}_bf16": (keys, torch.bfloat16, False) for keys in KEYS},
    **{f"attend_train_{keys}": (keys, torch.float32, True) for keys in KEYS},
    **{f"attend_train_{keys}_bf16": (keys, torch.bfloat16, True) for keys in KEYS},
}
"""Keys, precision, and whether gradients are wanted too."""
Way = Callable[[], list[Tensor]]


@benchmark
def attend(toy: bool) -> Comparison:
    """Without dropout; where there are words, half the sequences end in padding. Ratios over 1: the kernel is faster."""
    cases = {name: both(keys // 4 if toy else keys, dtype, trained, keys > 8) for name, (keys, dtype, trained) in CASES.items()}

    def check() -> None:
        for name, (by_kernel, by_products) in cases.items():
            error = 0.05 if CASES[name][1] == torch.bfloat16 else 1e-5
            for a, b in zip(by_kernel(), by_products(), strict=True):
                torch.testing.assert_close(a, b, rtol=error, atol=error)

    ways: dict[str, Callable[[], object]] = {}
    for name, (by_kernel, by_products) in cases.items():
        ways |= {f"{name}: fused": by_kernel, f"{name}: unfused": by_products}
    return Comparison(
        ways=ways,
        ratios=[Ratio(name, f"{name}: unfused", f"{name}: fused") for name in CASES],
        check=check,
        sizes=dict(sequences=SEQUENCES, heads=HEADS, head_width=WIDTH),
    )


def both(keys: int, dtype: torch.dtype, trained: bool, words: bool) -> tuple[Way, Way]:
    """The kernel's way and the other, from the queries, keys and values of one projection, as a layer has them; with their
    gradient if `trained`."""
    g = torch.Generator().manual_seed(0)
    projected = torch.randn(SEQUENCES, keys, 3, HEADS, WIDTH, generator=g).to(dtype).requires_grad_(trained)
    gradient = torch.randn(SEQUENCES, keys, HEADS, WIDTH, generator=g).to(dtype).transpose(1, 2)
    bias = torch.zeros(SEQUENCES, 1, keys, dtype=dtype) if words else None
    if bias is not None:
        bias[::2, :, -1] = -torch.inf

    def by(attention: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Way:
        def once() -> list[Tensor]:
            with torch.set_grad_enabled(trained):
                out = attention(*projected.permute(2, 0, 3, 1, 4))
            return [out, *torch.autograd.grad(out, projected, gradient)] if trained else [out]

        return once

    return by(lambda q, k, v: fused(q, k, v, bias, 0.0, 1)), by(lambda q, k, v: unfused(q, k, v, bias, 0.0, False))
