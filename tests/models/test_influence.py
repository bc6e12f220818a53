"""The network of source=learned finds who influences whom where that is known, and closes its gates where nobody does."""

from __future__ import annotations

import torch

from ctt.models.settings import GraphSettings, LearnedSettings, PredictorSettings
from ctt.training.slot_graphs import learn_influence, learned_graph, make_influence
from ctt.training.threads import threads

SLOTS, WIDTH, BATCH = 4, 8, 64
SHAPE = PredictorSettings(history_size=2, num_preds=1)


def windows(step: int, influence: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Slots stay as they are, but slot 0 is moved by a partner, chosen for each window, by the partner's third number.

    Slot 0 is told by its first number, the partner by its second. Returns window (B,T,S,D) and who truly depends on
    whom, bool (B,S,S).
    """
    rng = torch.Generator().manual_seed(step)
    slots = torch.randn(BATCH, 1, SLOTS, WIDTH, generator=rng)
    partner = torch.randint(1, SLOTS, (BATCH,), generator=rng)
    sample = torch.arange(BATCH)
    slots[..., :2] = -1.0
    slots[:, :, 0, 0] = slots[sample, 0, partner, 1] = 1.0
    after = slots.clone()
    after[:, 0, 0] += influence * slots[sample, 0, partner, 2:3]
    depends = torch.zeros(BATCH, SLOTS, SLOTS, dtype=torch.bool)
    depends[sample, 0, partner] = influence > 0
    return torch.cat([slots, slots, after], 1), depends


def learn(influence: float, price: float = 0.01, steps: int = 250, seed: int = 5):
    graph = GraphSettings(source="learned", learned=LearnedSettings(width=32, price=price, learning_rate=0.005))
    with threads(1):
        side = make_influence(SHAPE, graph, WIDTH, seed=seed, device=torch.device("cpu"))
        for step in range(steps):
            values = learn_influence(side, price, windows(step, influence)[0], None, seed, 0, step)
        window, depends = windows(10_000, influence)
        return side.model.gates(window[:, :2]).detach(), learned_graph(side, window[:, :2]), depends, values


def test_gates_open_towards_those_who_matter_alone():
    """Of seeds 0 to 5, 2 and 5 find the partner by its mark; from the others slot 0's gates open towards all slots."""
    gates, graph, depends, values = learn(influence=1.0)
    others = ~torch.eye(SLOTS, dtype=torch.bool).expand_as(depends)
    assert gates[depends].mean() > 0.9 and gates[others & ~depends].mean() < 0.1
    assert (graph[depends] > 0.3).float().mean() > 0.9 and (graph[others & ~depends] < 0.15).float().mean() > 0.9
    torch.testing.assert_close(graph.sum(-1), torch.ones(BATCH, SLOTS))
    torch.testing.assert_close(graph, gates / gates.sum(-1, keepdim=True))
    assert (
        values["influence_error"] < 0.1 and 0.2 < values["influence_gates"] < 0.5
    )  # one of four slots needs one other


def test_a_price_closes_gates_that_nothing_needs_and_no_price_does_not():
    closed, _, _, _ = learn(influence=0.0, steps=200)
    free, _, _, _ = learn(influence=0.0, price=0.0, steps=200)
    others = ~torch.eye(SLOTS, dtype=torch.bool).expand_as(closed)
    assert closed[others].max() < 0.2 and free[others].mean() > 0.3
    assert bool((closed[~others] == 1).all())


def test_windows_are_read_and_not_changed():
    window, _ = windows(0, 1.0)
    leaf = window.clone().requires_grad_()
    side = make_influence(SHAPE, GraphSettings(), WIDTH, seed=1, device=torch.device("cpu"))
    before = torch.get_rng_state()
    learn_influence(side, 0.01, leaf, None, 1, 0, 0)
    assert leaf.grad is None and torch.equal(torch.get_rng_state(), before)
    assert not learned_graph(side, leaf[:, :2]).requires_grad


def test_hidden_cells_teach_nothing():
    window, _ = windows(0, 1.0)
    visible = torch.ones(BATCH, 3, SLOTS, dtype=torch.bool)
    visible[:, 2, 1] = False
    moved = window.clone()
    moved[:, 2, 1] += 5
    weights = []
    for shown in (window, moved):
        side = make_influence(SHAPE, GraphSettings(), WIDTH, seed=1, device=torch.device("cpu"))
        learn_influence(side, 0.01, shown, visible, 1, 0, 0)
        weights.append(side.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
