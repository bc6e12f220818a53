"""The jacobian graph equals the full Jacobian from automatic differentiation."""

from __future__ import annotations

import pytest
import torch

from ctt.models.graphs.jacobian import _strengths, directions, jacobian_graph
from ctt.models.model_settings import PredictorSettings
from ctt.models.predictor import Predictor
from ctt.training.threads import threads

HISTORY, FUTURE, SLOTS, WIDTH, BATCH = 3, 2, 4, 6, 3
NUMBERS = FUTURE * WIDTH


@pytest.fixture(autouse=True)
def one_thread():
    """These sizes are too small for several threads: on a busy machine, two threads take forty times as long."""
    with threads(1):
        yield


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    shape = PredictorSettings(history_size=HISTORY, num_preds=FUTURE, depth=2, heads=2, mlp_width=8)
    return Predictor(shape, WIDTH).double()


@pytest.fixture(scope="module")
def history():
    return torch.randn(BATCH, HISTORY, SLOTS, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def masked_slots():
    masked = torch.zeros(BATCH, SLOTS, dtype=torch.bool)
    masked[0, 1] = masked[1, 0] = masked[2, 3] = True
    return masked


def full_strengths(model, history, masked):
    """Squared Frobenius norms (B,S,S) of every block of the whole Jacobian, sample by sample."""
    out = torch.zeros(BATCH, SLOTS, SLOTS, dtype=torch.float64)
    for b in range(BATCH):
        hidden = None if masked is None else masked[b : b + 1]

        def predict(one, hidden=hidden):
            return model(one[None], hidden)[0].view(HISTORY + FUTURE, SLOTS, WIDTH)[HISTORY:]

        whole = torch.autograd.functional.jacobian(predict, history[b])  # (P,S,D,H,S,D)
        for s in range(SLOTS):
            for j in range(SLOTS):
                out[b, s, j] = whole[:, s, :, :, j].square().sum()
    return out


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("masked", [None, masked_slots()], ids=["nothing masked", "masked"])
def test_with_every_direction_it_is_the_full_jacobian(model, history, masked, micro_batch):
    chosen = directions(NUMBERS, NUMBERS, torch.Generator().manual_seed(3))
    expected = full_strengths(model, history, masked).sqrt()
    graph = jacobian_graph(model, history, masked, chosen, micro_batch)
    torch.testing.assert_close(graph, expected / expected.sum(-1, keepdim=True), rtol=1e-10, atol=1e-13)
    assert (expected.amax((1, 2)) / expected.amin((1, 2)) > 3).all()  # blocks differ, so that errors would show
    assert not graph.requires_grad and all(p.grad is None for p in model.parameters()) and not history.requires_grad


def test_a_few_directions_are_right_on_average(model, history):
    """The mean of 200 graphs of two directions each, within 4 standard errors and the bias of a root (here under 8 %)."""
    exact = full_strengths(model, history, None)[0].sqrt()
    exact = exact / exact.sum(-1, keepdim=True)
    rng = torch.Generator().manual_seed(4)
    shares = torch.stack([jacobian_graph(model, history[:1], None, directions(2, NUMBERS, rng))[0] for _ in range(200)])
    mean, error = shares.mean(0), shares.std(0) / 200**0.5
    assert ((mean - exact).abs() < 0.08 * exact + 4 * error).all()
    assert (error < 0.05 * exact).all()  # otherwise the test above would be weak


def test_directions_are_orthonormal_and_favour_none():
    rng = torch.Generator().manual_seed(0)
    drawn = torch.stack([directions(3, 5, rng) for _ in range(4000)])
    torch.testing.assert_close(drawn @ drawn.transpose(1, 2), torch.eye(3).double().expand(4000, 3, 3))
    squares = 5 / 3 * drawn.transpose(1, 2) @ drawn  # n/k · Σ qqᵀ has the identity as its mean: no bias
    torch.testing.assert_close(squares.mean(0), torch.eye(5).double(), rtol=0, atol=0.06)
    assert drawn.mean(0).abs().max() < 0.03
    with pytest.raises(ValueError, match=r"projections must lie in 1\.\.5"):
        directions(6, 5, rng)


def test_the_squared_projections_have_the_squared_norm_as_their_mean(model, history):
    """Unbiasedness on the real Jacobian, in closed form: the mean over a complete basis of directions, one at a time."""
    basis = directions(NUMBERS, NUMBERS, torch.Generator().manual_seed(8))
    single = torch.stack([_strengths(model, history, None, basis[n : n + 1]).square() for n in range(NUMBERS)])
    torch.testing.assert_close(single.sum(0), full_strengths(model, history, None), rtol=1e-10, atol=1e-13)
