"""Rollouts of a world model: the frames, their errors, and the loading of states."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ctt.core.build_context import BuildContext
from ctt.core.errors import StoreError
from ctt.models.model_settings import RolloutSettings
from ctt.training.rollout import load, roll_out
from tests.models.literal_world_model import LiteralPredictor, literal_rollout
from tests.training.small_world_model import run, settings
from tests.training.standin import GIVEN, WIDTH, StandIn


@pytest.mark.parametrize("dtype,tolerance", [("float32", 1e-5), ("float16", 2e-3)])
def test_roll_out_writes_frames_and_their_errors(tmp_path, dtype, tolerance):
    data = StandIn()
    run(tmp_path / "state", 1)
    (tmp_path / "out").mkdir()
    context = BuildContext(tmp_path / "out")
    metrics = roll_out(settings(), RolloutSettings(batch=2, dtype=dtype), tmp_path / "state", data, context=context)
    literal = LiteralPredictor(3, 2, 2, 2, 24, WIDTH)
    literal.load_state_dict(load(tmp_path / "state", settings()).state_dict())
    for name in ("train", "validation"):
        made = np.load(tmp_path / "out" / f"rollout_{name}.npy")
        with torch.no_grad():
            expected = literal_rollout(literal, torch.from_numpy(data.split(name).slots), 2, 32)
        assert made.dtype == dtype
        np.testing.assert_allclose(made, expected.numpy(), atol=tolerance, rtol=tolerance)
    split = data.split("validation")
    future, visible = split.future[:, :32], split.visible[:, GIVEN : GIVEN + 32]
    error = np.square(made.astype(np.float32) - future).mean(-1)
    assert metrics["error"] == pytest.approx(error.mean(), rel=1e-4)
    assert metrics["error_visible"] == pytest.approx((error * visible).sum() / visible.sum(), rel=1e-4)
    assert metrics["per_frame"]["error"] == pytest.approx(error.mean((0, 2)).tolist(), rel=1e-4)
    assert metrics["copy_last"] == pytest.approx(np.square(split.slots[:, -1:] - future).mean(), rel=1e-4)
    assert metrics["linear"] == pytest.approx(0, abs=1e-9)
    assert len(metrics["per_frame"]["linear_visible"]) == 32
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics


def test_roll_out_without_a_known_future_has_no_metrics(tmp_path):
    run(tmp_path / "state", 0)
    (tmp_path / "out").mkdir()
    data = StandIn(truth=False)
    context = BuildContext(tmp_path / "out")
    assert roll_out(settings(), RolloutSettings(), tmp_path / "state", data, context=context) == {}


def test_loading_another_model_is_refused(tmp_path):
    run(tmp_path / "state", 0)
    with pytest.raises(StoreError, match="does not hold this world model"):
        load(tmp_path / "state", settings(depth=3))
