"""ALOE's attention: all implementations, including the padding for CUDA, equal a literal one."""

from __future__ import annotations

import math
from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from ctt.models.aloe.encoder import attend, fused_is_faster, unfused
from ctt.models.fused_attention import fused

KERNEL = F.scaled_dot_product_attention
B, H, M, N = 2, 2, 5, 7


class OnCuda(torch.Tensor):
    """A CPU tensor that claims to be on a CUDA device."""

    is_cuda = True  # type: ignore[assignment]  # a property of torch's, which only reads the device


def random_heads(width: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Queries, keys and values in float64, and a bias that hides some keys of one sequence."""
    g = torch.Generator().manual_seed(width)
    heads = [torch.randn(B, H, n, width, generator=g, dtype=torch.float64).requires_grad_() for n in (M, N, N)]
    bias = torch.zeros(B, 1, N, dtype=torch.float64)
    bias[1, :, -2:] = -torch.inf
    return heads, bias


def literal(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """A query at a time."""
    out = []
    for b in range(B):
        seen = [n for n in range(N) if bias is None or bias[b, 0, n] == 0]
        for h in range(H):
            for query in q[b, h]:
                share = [torch.exp(torch.dot(query, k[b, h, n]) / math.sqrt(len(query))) for n in seen]
                out.append(sum(s * v[b, h, n] for s, n in zip(share, seen, strict=True)) / sum(share))
    return torch.stack(out).view(B, H, M, -1)


IMPLEMENTATIONS = {
    "unfused": lambda q, k, v, bias: unfused(q, k, v, bias, 0.0, cheap=False),
    "fused": lambda q, k, v, bias: fused(q, k, v, bias, 0.0, multiple=1),
    "padded": lambda q, k, v, bias: fused(q, k, v, bias, 0.0, multiple=8),
    "as on CUDA": lambda *given: attend(*(t if t is None else t.as_subclass(OnCuda) for t in given), 0.0, False),
}


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("width", [18, 8])
@pytest.mark.parametrize("name", list(IMPLEMENTATIONS))
def test_outputs_and_gradients_equal_literal_attention(name: str, width: int, masked: bool) -> None:
    heads, hidden = random_heads(width)
    bias = hidden if masked else None
    with mock.patch.object(F, "scaled_dot_product_attention", wraps=KERNEL) as kernel:
        actual = IMPLEMENTATIONS[name](*heads, bias).as_subclass(torch.Tensor)
    given = [t.shape[-1] for call in kernel.call_args_list for t in call.args[:3]]
    kernel_width = {"unfused": 0, "fused": width}.get(name, 24 if width == 18 else 8)
    assert given == ([kernel_width] * 3 if kernel_width else [])
    expected = literal(*heads, bias)
    weight = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    found = torch.autograd.grad((actual * weight).sum(), heads)
    for a, e in zip(found, torch.autograd.grad((expected * weight).sum(), heads), strict=True):
        assert e.abs().max() > 1e-3
        torch.testing.assert_close(a, e, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("keys", "dtype", "trained", "faster"),
    [
        (8, torch.float32, True, True),
        (30, torch.float32, True, False),
        (190, torch.float32, True, True),
        (190, torch.bfloat16, True, False),
        (8, torch.float32, False, True),
        (30, torch.float32, False, False),
        (190, torch.float32, False, True),
        (8, torch.bfloat16, False, False),
        (30, torch.bfloat16, False, True),
    ],
)
def test_the_kernel_is_used_where_the_benchmark_found_it_faster(keys, dtype, trained, faster) -> None:
    q = torch.zeros(2, 2, keys, 4, dtype=dtype, requires_grad=trained)
    assert fused_is_faster(q, keys, 0.0, False) is faster
    assert not fused_is_faster(q, keys, 0.1, False), "on a CPU the kernel has no dropout"
