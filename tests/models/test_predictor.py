"""The predictor equals the literal one; its tensor names, initial values and dropout."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ctt.core.errors import SettingError
from ctt.models.dropout import Dropout, DropoutPass
from ctt.models.model_settings import PredictorSettings
from ctt.models.predictor import Predictor
from tests.models.literal_world_model import LiteralPredictor

WIDTH = 16


def make(history=3, future=1, depth=2, **more) -> Predictor:
    torch.manual_seed(1)
    settings = PredictorSettings(history_size=history, num_preds=future, depth=depth, heads=2, mlp_width=24, **more)
    return Predictor(settings, WIDTH).double()


def twin(ours: Predictor, depth=2) -> LiteralPredictor:
    theirs = LiteralPredictor(ours.history, ours.future, depth, 2, 24, WIDTH).double()
    theirs.load_state_dict(ours.state_dict())
    return theirs


@pytest.mark.parametrize("history,future", [(1, 2), (3, 1), (6, 10)])
def test_tokens_and_attention_equal_the_literal_ones(history, future):
    ours = make(history, future)
    slots = torch.randn(2, history, 7, WIDTH, dtype=torch.float64)
    masked = torch.zeros(2, 7, dtype=torch.bool)
    masked[0, 1] = masked[1, 4] = masked[1, 5] = True
    expected, attention = twin(ours)(slots, [[1], [4, 5]])
    read = {}
    got = ours(slots, masked, read=lambda layer, before, after: read.setdefault(layer, (before, after)))
    torch.testing.assert_close(got, expected.flatten(1, 2), rtol=1e-11, atol=1e-12)
    for layer, weights in enumerate(attention):
        torch.testing.assert_close(read[layer][0].mean(1), weights, rtol=1e-11, atol=1e-13)
        assert torch.equal(*read[layer])


def test_rows_select_tokens():
    ours = make(3, 4)
    slots = torch.randn(2, 3, 7, WIDTH, dtype=torch.float64)
    whole = ours(slots)
    torch.testing.assert_close(ours.predict(slots), whole[:, 21:].unflatten(1, (4, 7)), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(ours(slots, rows=torch.tensor([0, 5, 30])), whole[:, [0, 5, 30]], rtol=1e-12, atol=1e-13)
    rows = torch.tensor([[3, 1], [40, 22]])
    each = torch.stack([whole[0, [3, 1]], whole[1, [40, 22]]])
    torch.testing.assert_close(ours(slots, rows=rows), each, rtol=1e-12, atol=1e-13)


def test_masked_slots_are_seen_in_frame_0_only():
    ours = make()
    slots = torch.randn(1, 3, 7, WIDTH, dtype=torch.float64)
    masked = torch.zeros(1, 7, dtype=torch.bool)
    masked[0, 2] = True
    later, first = slots.clone(), slots.clone()
    later[0, 1:, 2] += 1
    first[0, 0, 2] += 1
    assert torch.equal(ours(later, masked), ours(slots, masked))
    assert not torch.allclose(ours(first, masked), ours(slots, masked))
    assert not torch.allclose(ours(later), ours(slots))


def test_tensor_names_are_the_published_ones():
    names = set(make(depth=1).state_dict())
    attention = {f"transformer.layers.0.0.{n}" for n in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")}
    feed = {f"transformer.layers.0.1.{n}.{kind}" for n in (0, 1, 4) for kind in ("weight", "bias")}
    rest = {f"{n}.{kind}" for n in ("id_projector", "transformer.norm", "to_out") for kind in ("weight", "bias")}
    assert names == attention | feed | rest | {"mask_token", "time_pos_embed"}
    assert make().mask_token.shape == (1, 1, WIDTH) and make().time_pos_embed.shape == (1, 4, 1, WIDTH)


def test_initial_values():
    torch.manual_seed(0)
    model = Predictor(PredictorSettings(depth=1), 128)
    assert float(model.mask_token.detach().std()) == pytest.approx(0.02, rel=0.3)
    assert float(model.time_pos_embed.detach().std()) == pytest.approx(1, rel=0.1)
    attention = model.transformer.layers[0][0]
    assert attention.in_proj_bias.abs().max() == 0 and attention.out_proj.bias.abs().max() == 0
    assert float(attention.in_proj_weight.detach().std()) == pytest.approx((2 / (128 + 384)) ** 0.5, rel=0.03)  # Xavier


@pytest.mark.parametrize("kind,p,expected", [("exact", 0.1, 0.1), ("cheap", 0.1, 6554 / 65536), ("cheap", 0.5, 0.5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_has_its_probability_and_keeps_means(kind, p, expected, dtype):
    source = Dropout(p, kind, seed=4)
    assert source.p == pytest.approx(expected, abs=1e-9)
    mask = source.mask((400, 1001), dtype)
    kept = mask != 0
    share = 1 - float(kept.double().mean())
    assert share == pytest.approx(expected, abs=4 * (p * (1 - p) / mask.numel()) ** 0.5)
    assert set(mask[kept].tolist()) == {float(torch.tensor(1 / (1 - source.p)).to(dtype))}
    if dtype == torch.float32:
        assert float(mask.double().mean()) == pytest.approx(1, abs=0.005)
    neighbours = (kept[:, 1:] & kept[:, :-1]).double().mean()  # decisions are independent
    assert float(neighbours) == pytest.approx((1 - expected) ** 2, abs=0.004)


def test_dropout_follows_its_seed():
    first, again, other = (Dropout(0.1, "cheap", seed).mask((50, 50), torch.float32) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_pass_replays_masks_for_the_first_samples():
    x = torch.ones(2, 6, 3)
    main = DropoutPass(Dropout(0.5, "exact", 1), keep=True)
    y = main(x)
    view = DropoutPass(Dropout(0.5, "exact", 2), replay=main.masks, replayed=2)
    z = view(torch.ones(5, 4, 3))
    assert torch.equal(z[:2], y[:, :4])
    assert not torch.equal(z[2:4], y[:, :4])


def test_training_with_dropout_differs_from_inference():
    ours = make(3, 1)
    slots = torch.randn(2, 3, 7, WIDTH, dtype=torch.float64)
    dropped = ours(slots, drop=DropoutPass(Dropout(0.3, "exact", 1)))
    assert not torch.allclose(dropped, ours(slots))
    many = torch.stack([ours(slots, drop=DropoutPass(Dropout(0.01, "exact", n))) for n in range(60)]).mean(0)
    assert (many - ours(slots)).abs().mean() < (dropped - ours(slots)).abs().mean() / 5


def test_settings_are_bounded_and_have_help_texts():
    for name, value in [("history_size", 0), ("dropout", 1.0), ("frameskip", 0), ("dropout_kind", "fast")]:
        with pytest.raises(SettingError, match=name):
            PredictorSettings(**{name: value})
    assert all(len(field.metadata["help"]) > 15 for field in dataclasses.fields(PredictorSettings))
    with pytest.raises(ValueError, match="heads must divide"):
        Predictor(PredictorSettings(heads=5), 16)
