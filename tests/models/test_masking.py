"""Which slots are masked: the published choice, and the distributions of the random ones."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ctt.core.errors import SettingError
from ctt.models.masking import draw_masked
from ctt.models.model_settings import MaskingSettings


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("count,expected", [(0, []), (1, [0]), (2, [0, 1]), (3, [0, 1, 5]), (4, [0, 1, 5, 2])])
def test_fixed_masks_the_slots_of_the_published_code(count, expected):
    for seed in (0, 1):
        masked = draw_masked(MaskingSettings(draw="fixed"), count, 5, 7, rng(seed))
        assert all(row.nonzero().flatten().tolist() == sorted(expected) for row in masked)


def test_fixed_follows_its_seed():
    chosen = {tuple(draw_masked(MaskingSettings("fixed", s), 2, 1, 7, rng())[0].tolist()) for s in range(20)}
    assert len(chosen) > 5


@pytest.mark.parametrize("draw", ["batch", "sample"])
@pytest.mark.parametrize("count", range(8))
def test_every_window_has_the_requested_number_and_every_slot_is_equally_likely(draw, count):
    generator = rng()
    masks = torch.stack([draw_masked(MaskingSettings(draw), count, 4, 7, generator) for _ in range(1500)])
    assert (masks.sum(-1) == count).all()
    share = masks[:, 0].double().mean(0)
    sd = (count / 7 * (1 - count / 7) / 1500) ** 0.5
    assert (share - count / 7).abs().max() <= 4.5 * sd
    both = (masks[:, 0, 0] & masks[:, 0, 1]).double().mean()  # pairs are uniform too, not only single slots
    assert float(both) == pytest.approx(count * (count - 1) / 42, abs=0.06)
    same = (masks == masks[:, :1]).all(-1).all(-1).double().mean()
    assert same == 1 if draw == "batch" or count in (0, 7) else same < 0.2


def test_draws_follow_the_generator():
    a, b, c = (draw_masked(MaskingSettings("sample"), 2, 50, 7, rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parametrize("count", [-1, 8])
def test_impossible_counts_are_refused(count):
    with pytest.raises(ValueError, match="num_masked_slots"):
        draw_masked(MaskingSettings(), count, 2, 7, rng())


def test_settings_are_checked_and_have_help_texts():
    with pytest.raises(SettingError, match="draw must be one of fixed, batch, sample"):
        MaskingSettings(draw="random")
    assert all(len(field.metadata["help"]) > 30 for field in dataclasses.fields(MaskingSettings))
