"""ALOE equals its literal version and has the published sizes and names; its variants."""

from __future__ import annotations

import dataclasses
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ctt.core.errors import DataError, SettingError
from ctt.data.data_format import CLEVRER
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.aloe.encoder import dropout
from ctt.models.aloe.frame_sampling import FrameSampling
from ctt.models.aloe.model import Aloe, AloeInput, load_published
from tests.models.aloe.literal_aloe import LiteralAloe

KERNEL = F.scaled_dot_product_attention
FEW = dataclasses.replace(CLEVRER, slots=5)
SMALL = dict(layers=3, heads=4, width=24, ffn=40, frames=5, dropout=0.0, equal_layers=False)


def questions(count: int, seed: int, frames: int = 5, slots: int = 5):
    """Random slots of `count` questions, their sequences (1..3 each) and padded words: the arguments of `as_input`."""
    g = torch.Generator().manual_seed(seed)
    given_slots = torch.randn(count, frames, slots, 128, generator=g, dtype=torch.float64)
    owner = torch.arange(count).repeat_interleave(torch.randint(1, 4, (count,), generator=g))
    b = len(owner)
    descriptive = torch.rand(b, generator=g) < 0.5
    question = torch.randint(1, 82, (b, 20), generator=g)
    choice = torch.randint(1, 82, (b, 12), generator=g)
    question[torch.arange(20) >= torch.randint(3, 17, (b, 1), generator=g)] = 0
    choice[torch.arange(12) >= torch.randint(2, 10, (b, 1), generator=g)] = 0
    choice[descriptive] = 0
    return given_slots, owner, question, choice, descriptive


def as_input(slots, owner, question, choice, descriptive, added=None) -> AloeInput:
    text = torch.cat([question, choice], 1)
    columns = text.any(0).nonzero()[:, 0]
    return AloeInput(slots, added, owner, text[:, columns], columns, descriptive)


def random_aloe(seed: int, **changes) -> Aloe:
    """Our model with random weights (positions and CLS too, which are initially zero)."""
    torch.manual_seed(seed)
    ours = Aloe(AloeSettings(**(SMALL | changes)), FEW).double()
    for p in ours.parameters():
        p.data += 0.05 * torch.randn_like(p)
    return ours


def both(seed: int, **changes):
    """Our model and the literal one with the same weights."""
    ours = random_aloe(seed, **changes)
    settings = ours.settings
    literal = LiteralAloe(settings.layers, settings.heads, settings.width, settings.ffn, 0.0, 5 * settings.frames).double()
    literal.load_state_dict(ours.state_dict())
    return ours, literal


@pytest.mark.parametrize("seed", [0, 1])
def test_outputs_and_gradients_equal_the_literal_version(seed: int) -> None:
    ours, literal = both(seed)
    slots, owner, question, choice, descriptive = questions(6, seed)
    expected = literal(slots[owner], question, choice, descriptive)
    actual = ours(as_input(slots, owner, question, choice, descriptive))
    weight = torch.randn(23, dtype=torch.float64)
    for answers, options in (expected, actual):
        ((answers * weight[:22]).sum() + (options * weight[22]).pow(2).sum()).backward()
    for a, e in zip(actual, expected, strict=True):
        assert e.abs().mean() > 0.01
        torch.testing.assert_close(a, e, rtol=1e-10, atol=1e-10)
    expected_gradients = {name: p.grad for name, p in literal.named_parameters() if p.requires_grad}
    actual_gradients = {name: p.grad for name, p in ours.named_parameters()}
    assert actual_gradients.keys() == expected_gradients.keys()
    for name, e in expected_gradients.items():
        assert e.abs().max() > 1e-6 or name.endswith("in_proj_bias"), name
        torch.testing.assert_close(actual_gradients[name], e, rtol=1e-10, atol=1e-10, msg=name)


def test_evaluation_without_padding_equals_the_literal_version() -> None:
    """In evaluation, no mask is created if no sequence has padding."""
    ours, literal = (model.eval() for model in both(2))
    slots, owner, question, choice, _ = questions(5, 2)
    question[:, :9], question[:, 9:], choice[:, :4], choice[:, 4:] = 5, 0, 7, 0
    question[:, :9] += torch.arange(len(owner))[:, None]
    descriptive = torch.zeros(len(owner), dtype=torch.bool)
    batch = as_input(slots, owner, question, choice, descriptive)
    assert ours.embed(batch)[1] is None and ours.train().embed(batch)[1] is not None
    ours.eval()
    for a, e in zip(ours(batch), literal(slots[owner], question, choice, descriptive), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("padded", [True, False])
def test_evaluation_by_the_fused_kernel_equals_the_literal_version(padded: bool) -> None:
    """The kernel is used from 100 tokens on, with a mask if there is padding."""
    ours, literal = (model.eval() for model in both(3, frames=40, layers=2))
    slots, owner, question, choice, descriptive = questions(3, 3, frames=40)
    if not padded:
        question[:], choice[:], descriptive[:] = question[:1].clamp(min=1), choice[:1].clamp(min=1), False
    batch = as_input(slots, owner, question, choice, descriptive)
    assert 1 + 40 * 5 + len(batch.columns) > 120
    with torch.no_grad(), mock.patch.object(F, "scaled_dot_product_attention", wraps=KERNEL) as kernel:
        actual = ours(batch)
    assert kernel.call_count == 2 and all((call.args[3] is not None) == padded for call in kernel.call_args_list)
    for a, e in zip(actual, literal(slots[owner], question, choice, descriptive), strict=True):
        assert e.abs().mean() > 0.01
        torch.testing.assert_close(a, e, rtol=1e-10, atol=1e-10)


def test_dropout_off_in_eval_and_on_in_training() -> None:
    ours, _ = both(0, dropout=0.3)
    batch = as_input(*questions(4, 0))
    ours.eval()
    assert torch.equal(ours(batch)[0], ours(batch)[0])
    ours.train()
    assert not torch.equal(ours(batch)[0], ours(batch)[0])


@pytest.mark.slow
def test_dropout_acts_as_in_torch() -> None:
    """Mean and spread over many draws equal those of nn.TransformerEncoderLayer (one layer: the one for CLS alone)."""
    ours, literal = both(0, layers=1, dropout=0.3)
    for layer in literal.transformer_model.transformer_encoder.layers:
        layer.self_attn.dropout = 0.3
        for part in (layer.dropout, layer.dropout1, layer.dropout2):
            part.p = 0.3
    slots, _, question, choice, _ = questions(1, 3)
    owner, descriptive = torch.zeros(3000, dtype=torch.long), torch.ones(3000, dtype=torch.bool)
    question, choice = question[:1].expand(3000, -1), torch.zeros(3000, 12, dtype=torch.long)
    with torch.no_grad():
        a = ours(as_input(slots, owner, question, choice, descriptive))[0]
        e = literal(slots[owner], question, choice, descriptive)[0]
    error = (a.var(0) + e.var(0)).div(3000).sqrt()
    assert ((a.mean(0) - e.mean(0)).abs() / error).max() < 4.5
    assert (a.std(0) / e.std(0) - 1).abs().max() < 0.1


def test_published_sizes_and_names() -> None:
    model = Aloe(AloeSettings())
    assert sum(p.numel() for p in model.parameters()) == 2_879_427
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes == {name: tuple(value.shape) for name, value in LiteralAloe().state_dict().items()}
    assert shapes["transformer_model.transformer_encoder.pos_embedding"] == (1, 208, 144)
    assert shapes["transformer_model.transformer_encoder.layers.11.self_attn.in_proj_weight"] == (432, 144)


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "module"])
def test_public_checkpoints_load(wrap: str) -> None:
    ours, literal = both(5)
    fresh = Aloe(ours.settings, FEW).double()
    state: dict = dict(literal.state_dict())
    if wrap == "module":
        state = {f"module.{name}": value for name, value in state.items()}
    load_published(fresh, {"state_dict": state, "epoch": 3} if wrap != "plain" else state)
    assert all(torch.equal(a, b) for a, b in zip(fresh.state_dict().values(), ours.state_dict().values(), strict=True))


def test_tensors_that_do_not_fit_are_named() -> None:
    ours, literal = both(0)
    state = dict(literal.state_dict())
    del state["transformer_model.CLS"]
    state["transformer_model.extra"] = torch.zeros(1)
    state["transformer_model.q_in_proj.bias"] = torch.zeros(3)
    with pytest.raises(DataError, match=r"missing: transformer_model.CLS; unexpected: .*extra; other shape: .*q_in_proj.bias"):
        load_published(ours, state)


@given(st.integers(0, 10_000))
@hypothesis_settings(max_examples=8, deadline=None)
def test_leaving_out_unused_words_changes_nothing(seed: int) -> None:
    ours, _ = both(1)
    slots, owner, question, choice, descriptive = questions(3, seed)
    full = AloeInput(slots, None, owner, torch.cat([question, choice], 1), torch.arange(32), descriptive)
    for a, b in zip(ours(full), ours(as_input(slots, owner, question, choice, descriptive)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("tokens", ["frames", "trajectory"])
def test_only_sequences_with_added_frames_depend_on_them(tokens: str) -> None:
    ours = random_aloe(0, tokens=tokens, frames=16, predicted_frames=4)
    slots, owner, question, choice, descriptive = questions(4, 2, frames=16)
    added = torch.randn(4, 4, 5, 128, dtype=torch.float64)
    without = ours(as_input(slots, owner, question, choice, descriptive))[0]
    with_them = ours(as_input(slots, owner, question, choice, descriptive, added))[0]
    other = ours(as_input(slots, owner, question, choice, descriptive, added + (torch.arange(4) == 0)[:, None, None, None]))[0]
    assert (without - with_them).abs().amax(1).min() > 1e-6
    changed = (with_them - other).abs().amax(1) > 1e-9
    assert torch.equal(changed, owner == 0)


def test_trajectory_tokens_are_one_per_slot() -> None:
    ours = random_aloe(0, tokens="trajectory")
    slots, owner, question, choice, descriptive = questions(2, 0)
    batch = as_input(slots, owner, question, choice, descriptive)
    tokens, _ = ours.embed(batch)
    assert tokens.shape[1] == 1 + 5 + batch.text.shape[1]
    moved = slots.clone()
    moved[:, :, 1] += 1
    batch.given = moved
    changed = (ours.embed(batch)[0] - tokens).abs().amax((0, 2)) > 1e-9
    assert changed.nonzero()[:, 0].tolist() == [2]


@pytest.mark.parametrize("words", ["vector", "film"])
def test_the_words_as_one_vector_are_the_sum_over_their_positions(words: str) -> None:
    ours = random_aloe(0, tokens="trajectory", words=words)
    slots, owner, question, choice, descriptive = questions(3, 2)
    batch = as_input(slots, owner, question, choice, descriptive)
    tokens, bias = ours.embed(batch, ours._conditioning(batch))
    t, width = ours.transformer_model, ours.settings.width
    assert bias is None and tokens.shape == (len(owner), 1 + 5, width)
    plain = ours._slot_tokens(batch)[owner]
    weight = t.text_in_proj.weight.view(width, 32, -1)
    encoded = t.transformer_encoder(tokens, None)
    answers, options = ours(batch)
    for b in range(len(owner)):
        total = t.text_in_proj.bias.clone()
        for place, word in enumerate([*question[b].tolist(), *choice[b].tolist()]):
            if word:
                total += weight[:, place] @ t.q_embedding.weight[word]
        vector = t.text_out_proj.weight @ total.clamp(min=0) + t.text_out_proj.bias
        scale, last = (vector[2 * width : 3 * width], vector[3 * width :]) if words == "film" else (0.0, 0.0)
        cls = t.CLS[0, 0] + t.transformer_encoder.pos_embedding[0, 0] + vector[:width]
        torch.testing.assert_close(tokens[b, 0], cls, rtol=1e-10, atol=1e-10)
        conditioned = plain[b] * (1 + scale) + vector[width : 2 * width]
        torch.testing.assert_close(tokens[b, 1:], conditioned, rtol=1e-10, atol=1e-10)
        read = encoded[b] * (1 + last)
        torch.testing.assert_close(answers[b], t.cls_answer_mlp(read), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(options[b], t.mc_answer_mlp(read)[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_cheap_dropout_zeroes_the_right_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(401, 503)
    y = dropout(x, p, cheap=True)
    share = (y == 0).float().mean().item()
    assert abs(share - p) < 4 * (p * (1 - p) / x.numel()) ** 0.5 + 2**-16
    assert torch.unique(y).numel() == 2 and abs(y.mean().item() - 1) < 0.01
    columns = (y == 0).float().mean(0)
    assert columns.std() < 1.2 * (p * (1 - p) / 401) ** 0.5  # all columns have the same share


def test_layers_start_equal_only_with_equal_layers() -> None:
    def first_two(equal: bool):
        layers = Aloe(AloeSettings(**(SMALL | {"equal_layers": equal})), FEW).transformer_model.transformer_encoder.layers
        return layers[0].linear1.weight, layers[1].linear1.weight

    assert torch.equal(*first_two(True)) and not torch.equal(*first_two(False))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 145}, "aloe.width must be a multiple of aloe.heads"),
        ({"eval_start": 8}, "aloe.eval_start must be less than 8"),
        ({"predicted_frames": 7}, "aloe.predicted_frames can be at most 6"),
        ({"rollout_frames": "all", "frames": 3}, "none fits; set aloe.frames to at least 4"),
        ({"epochs": 10, "schedule_epochs": 9}, "aloe.schedule_epochs must be at least"),
        ({"tokens": "patches"}, "tokens must be one of"),
    ],
)
def test_settings_are_checked(changes: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        FrameSampling(AloeSettings(**changes))
