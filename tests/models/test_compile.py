"""The compiled predictor gives the results of the eager one, in one graph, in every use."""

from __future__ import annotations

import itertools

import pytest
import torch

from ctt.models.draws import Draws
from ctt.models.dropout import Dropout, DropoutPass
from ctt.models.losses.objective import Objective, StepBatch
from ctt.models.losses.terms import step_gradients
from ctt.models.model_settings import GraphSettings, PredictorSettings
from ctt.models.predictor import Predictor

pytestmark = pytest.mark.slow

SLOTS, WIDTH, BATCH = 7, 16, 6
SHAPE = PredictorSettings(history_size=3, num_preds=2, depth=2, heads=2, mlp_width=24)


def make(compiled: bool, dtype: torch.dtype = torch.float64) -> Predictor:
    torch.manual_seed(3)
    model = Predictor(SHAPE, WIDTH).to(dtype)
    if compiled:
        model.compile(backend="aot_eager", fullgraph=True)  # traced as for inductor, but without a C compiler
    return model


def step(model: Predictor, masked_count: int, kind: str, graph: GraphSettings, share: bool, size: int) -> dict:
    dtype = model.mask_token.dtype
    slots = torch.randn(BATCH, 5, SLOTS, WIDTH, generator=torch.Generator().manual_seed(1), dtype=dtype)
    masked = torch.zeros(BATCH, SLOTS, dtype=torch.bool)
    masked[:, 1 : 1 + masked_count] = True
    draws = Draws(masked, {"invariance": torch.full((BATCH,), 4), "sufficiency": torch.full((BATCH,), 5)})
    return step_gradients(
        model,
        StepBatch(slots, draws),
        Objective(graph, {"invariance": 0.2, "sufficiency": 0.1}, share_dropout=share),
        dropout=Dropout(0.1, kind, 7),
        micro_batch=size,
    )


CASES = [
    (0, "exact", GraphSettings(frames="mean", scope="batch", dropout="after"), False, 6),
    (2, "cheap", GraphSettings(source="rollout_attention"), True, 4),  # 4 windows, then 2: shapes change within a step
]


@pytest.mark.parametrize("masked_count, kind, graph, share, size", CASES, ids=["published", "shared masks"])
def test_a_compiled_step_has_the_terms_and_gradients_of_an_eager_one(masked_count, kind, graph, share, size):
    torch.compiler.reset()
    eager, compiled = make(False), make(True)
    for one, other in itertools.repeat((eager, compiled), 2):  # the second step runs the code that the first one compiled
        expected, got = (step(model, masked_count, kind, graph, share, size) for model in (one, other))
        assert set(got) == set(expected) and expected["invariance"] > 0 and expected["sufficiency"] > 0
        for name, value in expected.items():
            torch.testing.assert_close(got[name], value, rtol=1e-10, atol=1e-14, msg=lambda m, n=name: f"{n}: {m}")
        for (name, a), b in zip(eager.named_parameters(), compiled.parameters(), strict=True):
            scale = a.grad.abs().max().clamp(min=1e-6)
            assert (a.grad - b.grad).abs().max() / scale < 1e-9, name


def test_a_compiled_rollout_is_the_eager_one():
    torch.compiler.reset()
    history = torch.randn(2, 3, SLOTS, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(make(True).predict(history), make(False).predict(history), rtol=1e-11, atol=1e-13)


def test_masks_drawn_ahead_are_those_drawn_during_the_pass():
    """Bit for bit and in the same order: compiled training differs from eager training only by rounding."""
    model = make(False, torch.float32)
    shapes = model.dropout_shapes(4, SLOTS, 14)
    seen = []
    ahead, during = DropoutPass(Dropout(0.1, "exact", 5)), DropoutPass(Dropout(0.1, "exact", 5), keep=True)
    ahead.draw_ahead(shapes, torch.float32)
    history = torch.randn(4, 3, SLOTS, WIDTH)
    model(history, rows=model.future_rows(SLOTS), drop=lambda x: (seen.append(tuple(x.shape)), during(x))[1])
    assert seen == shapes and all(torch.equal(a, b) for a, b in zip(ahead.masks, during.masks, strict=True))
