"""The batched rollout equals the literal one, which computes each offset separately."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ctt.models.model_settings import PredictorSettings, RolloutSettings
from ctt.models.predictor import Predictor
from ctt.models.rollout import rollout
from tests.models.literal_world_model import LiteralPredictor, literal_rollout

WIDTH = 16


def make(history: int, future: int) -> tuple[Predictor, LiteralPredictor]:
    torch.manual_seed(2)
    settings = PredictorSettings(history_size=history, num_preds=future, depth=1, heads=2, mlp_width=24)
    ours = Predictor(settings, WIDTH).double()
    theirs = LiteralPredictor(history, future, 1, 2, 24, WIDTH).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("history,future,frameskip", [(3, 1, 5), (6, 10, 2), (3, 4, 5), (1, 1, 1), (2, 5, 3), (4, 2, 7)])
def test_rollout_equals_the_literal_one(history, future, frameskip):
    ours, theirs = make(history, future)
    slots = torch.randn(2, 40, 7, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        expected = literal_rollout(theirs, slots, frameskip, 32)
    torch.testing.assert_close(rollout(ours, slots, frameskip, 32), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("frames", [1, 7, 32, 50])
def test_a_shorter_rollout_is_a_prefix(frames):
    ours, _ = make(3, 4)
    slots = torch.randn(2, 128, 7, WIDTH, dtype=torch.float64)
    made = rollout(ours, slots, 5, frames)
    assert made.shape == (2, frames, 7, WIDTH)
    assert torch.equal(made, rollout(ours, slots, 5, 50)[:, :frames])


def test_only_the_last_frames_are_read_and_too_few_are_refused():
    ours, _ = make(3, 1)
    slots = torch.randn(1, 128, 7, WIDTH, dtype=torch.float64)
    changed = slots.clone()
    changed[:, : 128 - 15] += 1
    assert torch.equal(rollout(ours, slots, 5), rollout(ours, changed, 5))
    with pytest.raises(ValueError, match="needs 15 given frames; there are 14"):
        rollout(ours, slots[:, :14], 5)


def test_settings_have_help_texts():
    assert RolloutSettings().frames == 32
    assert all(len(field.metadata["help"]) > 30 for field in dataclasses.fields(RolloutSettings))
