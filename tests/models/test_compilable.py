"""Calls that CUDA graphs can replay, and attention as CUDA computes it, on a CPU: the same results, and what graphs need."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.aloe.encoder import AloeEncoder
from ctt.models.model_settings import PredictorSettings
from ctt.models.predictor import Predictor
from tests.models.aloe.test_attention import OnCuda

KERNEL = F.scaled_dot_product_attention
SLOTS, WIDTH = 3, 12
SHAPE = PredictorSettings(history_size=2, num_preds=1, depth=2, heads=2, mlp_width=8)


def predictor(replayed: bool) -> Predictor:
    torch.manual_seed(0)
    model = Predictor(SHAPE, WIDTH).double()
    model.replayed = replayed
    return model


def passes(model: Predictor) -> list[torch.Tensor]:
    """A step of two passes, whose gradients add up; what each returned, as it is after the other one."""
    model.zero_grad(set_to_none=True)
    random = torch.Generator().manual_seed(1)
    out = []
    for _ in range(2):
        made = model(torch.randn(2, 2, SLOTS, WIDTH, generator=random, dtype=torch.float64))
        made.square().sum().backward()
        out.append(made.detach())
    return out


def test_replayed_calls_give_the_same_results_and_gradients() -> None:
    plain, replayed = predictor(False), predictor(True)
    for _ in range(2):  # the second step has the buffers of the first
        for a, b in zip(passes(plain), passes(replayed), strict=True):
            assert torch.equal(a, b)
        for (name, a), b in zip(plain.named_parameters(), replayed.parameters(), strict=True):
            assert a.grad is not None and b.grad is not None and torch.equal(a.grad, b.grad), name


def test_a_replayed_call_begins_a_step_returns_a_copy_and_adds_gradients_to_its_own_buffers() -> None:
    """What a graph returns, here `overwritten`, and the gradients that it leaves are in memory of its next replay."""
    model, overwritten = predictor(True), torch.zeros(1, requires_grad=True) * 1
    with (
        mock.patch.object(torch.compiler, "cudagraph_mark_step_begin") as mark,
        mock.patch.object(model, "forward", lambda *_, **__: overwritten),
    ):
        returned = model()
    assert mark.call_count == 1
    assert returned.data_ptr() != overwritten.data_ptr() and torch.equal(returned, overwritten)
    held = {name: p.grad for name, p in model.named_parameters()}
    passes(model)
    for name, parameter in model.named_parameters():
        assert parameter.grad is held[name], name
    with torch.no_grad():
        model.zero_grad(set_to_none=True)
        model(torch.zeros(1, 2, SLOTS, WIDTH, dtype=torch.float64))
    assert all(p.grad is None for p in model.parameters())


def test_a_mode_is_passed_to_torch_compile() -> None:
    for mode, replayed in (("default", False), ("reduce-overhead", True)):
        model = predictor(False)
        with mock.patch.object(torch, "compile", return_value=lambda *_, **__: torch.zeros(1)) as made:
            model.compile_calls(mode, dynamic=True)
        assert made.call_args.kwargs == {"mode": mode, "dynamic": True}
        assert model.replayed == replayed and model.compiled


@pytest.mark.parametrize("biased", [True, False])
def test_sequences_rounded_up_for_graphs_have_the_results_of_exact_ones(biased: bool) -> None:
    settings = AloeSettings(layers=2, heads=2, width=8, ffn=12, dropout=0.0)
    torch.manual_seed(0)
    encoder = AloeEncoder(settings, 40).double()
    seen: list[tuple[int, int]] = []
    encoder.layers[0].register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[:2])))
    for sequences, tokens in ((5, 11), (13, 9), (16, 16)):
        x = torch.randn(sequences, tokens, 8, dtype=torch.float64, requires_grad=True)
        bias = None
        if biased:
            bias = torch.zeros(sequences, 1, tokens, dtype=torch.float64)
            bias[::2, :, -2:] = -torch.inf
        found = []
        for replayed in (False, True):
            encoder.replayed = replayed
            encoder.zero_grad()
            out = encoder(x, bias)
            (given,) = torch.autograd.grad(out.square().sum(), x, retain_graph=True)
            out.square().sum().backward()
            found.append([out, given, *(p.grad for p in encoder.layers.parameters())])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    exact, rounded = seen[::2], seen[1::2]
    assert exact == [(5, 11), (13, 9), (16, 16)] and set(rounded) == {(16, 16)}


@pytest.mark.parametrize("width, heads, kernel_width", [(12, 2, 8), (24, 2, 16), (16, 2, 8)])
def test_attention_on_cuda_pads_heads_to_a_width_that_its_kernels_take(width: int, heads: int, kernel_width: int) -> None:
    torch.manual_seed(0)
    model = Predictor(PredictorSettings(history_size=2, num_preds=1, depth=2, heads=heads, mlp_width=8), width).double().eval()
    history = torch.randn(2, 2, SLOTS, width, dtype=torch.float64)
    with torch.no_grad():
        expected = model(history)
        with mock.patch.object(F, "scaled_dot_product_attention", wraps=KERNEL) as kernel:
            actual = model(history.as_subclass(OnCuda)).as_subclass(torch.Tensor)
    assert [t.shape[-1] for call in kernel.call_args_list for t in call.args[:3]] == [kernel_width] * 6
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)
