"""The network of source=learned finds the known influences between slots, and none where there are none."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ctt.models.graphs.graph_source import GraphInputs
from ctt.models.graphs.learned import SOURCE
from ctt.models.model_settings import GraphSettings, LearnedSettings, PredictorSettings
from ctt.training.recovery import auroc, average_precision
from ctt.training.slot_graphs import learn_side, make_side
from ctt.training.threads import threads

SLOTS, WIDTH, BATCH = 4, 8, 64
SHAPE = PredictorSettings(history_size=2, num_preds=1)
OTHERS = ~torch.eye(SLOTS, dtype=torch.bool).expand(BATCH, SLOTS, SLOTS)

GRAPH = GraphSettings(source="learned")


def learned_graph(side, history: torch.Tensor) -> torch.Tensor:
    return SOURCE.graph(GraphInputs(None, GRAPH, history, None, torch.Generator, network=side.model))


def learn_influence(side, price: float, window: torch.Tensor) -> dict[str, torch.Tensor]:
    return learn_side(side, dataclasses.replace(GRAPH, learned=LearnedSettings(price=price)), window)


def windows(step: int, influence: float, absent: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Slots change only by noise, except those near (dimension 0) a heavier slot (dimension 1), which are moved by its
    dimension 2. The share `absent` of slots (dimension 3 is −1, else 1) neither moves others nor is moved.
    Returns window (B,T,S,D) and the true dependence, bool (B,S,S)."""
    rng = torch.Generator().manual_seed(step)
    slots = torch.randn(BATCH, 1, SLOTS, WIDTH, generator=rng)
    there = torch.rand(BATCH, SLOTS, generator=rng) >= absent
    if absent:
        slots[:, 0, :, 3] = torch.where(there, 1.0, -1.0)
    place, weight, push = slots[:, 0, :, :3].unbind(-1)
    near = (place[:, :, None] - place[:, None]).abs() < 0.4
    depends = near & (weight[:, None] > weight[:, :, None] + 0.3) & there[:, None] & there[:, :, None]
    moved = influence * (depends * push[:, None]).sum(-1)
    after = slots + moved[:, None, :, None] + 0.1 * torch.randn(slots.shape, generator=rng)
    return torch.cat([slots, slots, after], 1), depends


def learn(influence: float, price: float, steps: int, seed: int, absent: float = 0.0):
    with threads(1):
        side = make_side(SHAPE, GRAPH, WIDTH, seed=seed, device=torch.device("cpu"))
        for step in range(steps):
            values = learn_influence(side, price, windows(step, influence, absent)[0])
        window, depends = windows(10_000, influence, absent)
        return learned_graph(side, window[:, :2]), depends, values


@pytest.mark.parametrize("seed", range(4))
def test_influences_are_found_from_any_initial_weights(seed):
    graph, depends, values = learn(1.0, LearnedSettings().price, steps=250, seed=seed)
    torch.testing.assert_close(graph.sum(-1), torch.ones(BATCH, SLOTS))
    assert auroc(graph[OTHERS].numpy(), depends[OTHERS].numpy()) > 0.95
    reverse = depends.transpose(1, 2) & ~depends
    assert graph[depends].mean() > 3 * graph[reverse].mean()  # the direction is found: which slot pushes which
    assert values["influence_error"] < 1.1 and values["influence_others"] > 0.1


def test_a_price_removes_slots_that_explain_nothing():
    """Slots move by noise alone; without a price, part of the error is attributed to other slots."""
    priced, _, _ = learn(0.0, 0.5, steps=150, seed=1)
    free, _, _ = learn(0.0, 0.0, steps=150, seed=1)
    assert priced[OTHERS].max() < 0.05 and free[OTHERS].mean() > 0.1


def test_windows_are_read_and_not_changed():
    window, _ = windows(0, 1.0)
    leaf = window.clone().requires_grad_()
    side = make_side(SHAPE, GRAPH, WIDTH, seed=1, device=torch.device("cpu"))
    before = torch.get_rng_state()
    learn_influence(side, 0.05, leaf)
    assert leaf.grad is None and torch.equal(torch.get_rng_state(), before)
    assert not learned_graph(side, leaf[:, :2]).requires_grad


@pytest.mark.parametrize("seed", range(2))
def test_slots_without_interactions_do_not_hide_influences(seed):
    """Like empty slots and objects out of view: near to others, without influence, and not marked as such in the input."""
    graph, depends, _ = learn(1.0, LearnedSettings().price, steps=300, seed=seed, absent=0.6)
    assert auroc(graph[OTHERS].numpy(), depends[OTHERS].numpy()) > 0.95
    assert average_precision(graph[OTHERS].numpy(), depends[OTHERS].numpy()) > 0.6


def test_windows_without_change_keep_weights_finite():
    still = torch.ones(BATCH, 3, SLOTS, WIDTH)
    side = make_side(SHAPE, GRAPH, WIDTH, seed=1, device=torch.device("cpu"))
    values = learn_influence(side, 0.05, still)
    weights = [*side.model.state_dict().values(), *values.values()]
    assert all(bool(value.isfinite().all()) for value in weights)
