"""The slot graph's scale, where it is read, and which slots are neighbours."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ctt.core.errors import SettingError
from ctt.models.dropout import Dropout, DropoutPass
from ctt.models.graphs.attention_reader import AttentionReader
from ctt.models.graphs.slot_graph import (
    draw_any,
    draw_unmasked,
    indifferent_to,
    irrelevant_for,
    row_shares,
    scoped,
    touching,
)
from ctt.models.model_settings import GraphSettings, PredictorSettings
from ctt.models.predictor import Predictor
from tests.models.literal_world_model import LiteralPredictor, read_graph

HISTORY, FUTURE, SLOTS, WIDTH = 3, 2, 7, 16


def graph_of(settings: GraphSettings, rows=None, dropout=None):
    torch.manual_seed(0)
    shape = PredictorSettings(history_size=HISTORY, num_preds=FUTURE, depth=3, heads=2, mlp_width=24)
    model = Predictor(shape, WIDTH).double()
    slots = torch.randn(4, HISTORY, SLOTS, WIDTH, dtype=torch.float64)
    start = HISTORY * SLOTS if rows is None else 0
    reader = AttentionReader(settings, 3, HISTORY * SLOTS, SLOTS, start)
    drop = None if dropout is None else DropoutPass(Dropout(dropout, "exact", 5))
    model(slots, rows=rows, drop=drop, read=reader)
    twin = LiteralPredictor(HISTORY, FUTURE, 3, 2, 24, WIDTH).double()
    twin.load_state_dict(model.state_dict())
    return reader.graph(), read_graph(twin, slots, [[]] * 4, settings.frames, settings.source)


@pytest.mark.parametrize("source", ["attention", "rollout_attention"])
@pytest.mark.parametrize("frames,total", [("mean", 1 / (HISTORY + FUTURE)), ("sum", 1.0)])
def test_the_graph_equals_the_literal_one_and_has_its_scale(source, frames, total):
    settings = GraphSettings(source=source, frames=frames)
    future = torch.arange(HISTORY * SLOTS, (HISTORY + FUTURE) * SLOTS)
    for rows in (None, future):
        graph, expected = graph_of(settings, rows)
        torch.testing.assert_close(graph, expected, rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(graph.sum(-1), torch.full((4, SLOTS), total, dtype=torch.float64))
        assert not graph.requires_grad


def test_attention_after_dropout_differs():
    before, clean = graph_of(GraphSettings(dropout="before"), dropout=0.5)
    after, _ = graph_of(GraphSettings(dropout="after"), dropout=0.5)
    assert (after.sum(-1) - 1).abs().max() > 0.05
    torch.testing.assert_close(before.sum(-1), torch.ones(4, SLOTS, dtype=torch.float64))
    assert not torch.allclose(before, clean)  # dropout acted in earlier layers too


def test_neighbours_by_hand():
    graph = torch.tensor([[[0.9, 0.1, 0.5], [0.2, 0.1, 0.3], [0.4, 0.0, 0.0]]])
    slot = torch.tensor([0])
    assert indifferent_to(graph, slot, 0.3).tolist() == [[False, True, False]]  # column 0: 0.2 and 0.4
    assert irrelevant_for(graph, slot, 0.3).tolist() == [[False, True, False]]  # row 0: 0.1 and 0.5
    assert not irrelevant_for(graph, slot, 0.1).any()  # an entry at the threshold is a neighbour
    assert irrelevant_for(graph, torch.tensor([2]), 0.3).tolist() == [[False, True, False]]
    assert indifferent_to(graph, torch.tensor([2]), 0.4).tolist() == [[False, True, False]]


def test_with_scope_batch_every_window_has_the_mean_graph():
    graph = torch.rand(5, 7, 7)
    assert torch.equal(scoped(graph, "sample"), graph)
    assert torch.allclose(scoped(graph, "batch")[3], graph.mean(0))


@pytest.mark.parametrize("scope", ["batch", "sample"])
def test_draws_are_uniform(scope):
    generator = torch.Generator().manual_seed(0)
    masked = torch.zeros(3, 7, dtype=torch.bool)
    masked[:, [1, 4]] = True
    removed = torch.stack([draw_unmasked(masked, scope, generator) for _ in range(2000)])
    share = torch.bincount(removed[:, 0], minlength=7) / 2000
    assert share[[1, 4]].sum() == 0
    assert (share[[0, 2, 3, 5, 6]] - 0.2).abs().max() < 0.045
    target = torch.stack([draw_any(3, 7, scope, generator) for _ in range(2000)])
    assert (torch.bincount(target[:, 1], minlength=7) / 2000 - 1 / 7).abs().max() < 0.035
    for drawn in (removed, target):
        assert bool((drawn == drawn[:, :1]).all()) == (scope == "batch")


def test_nothing_is_drawn_when_every_slot_is_masked():
    assert draw_unmasked(torch.ones(2, 7, dtype=torch.bool), "sample", torch.Generator()) is None


def test_settings_are_checked_and_have_help_texts():
    for name in ("source", "frames", "scope", "dropout"):
        with pytest.raises(SettingError, match=name):
            GraphSettings(**{name: "other"})
    assert all(len(field.metadata["help"]) > 50 for field in dataclasses.fields(GraphSettings))


def test_shares_of_a_row():
    influence = torch.tensor([[[1.0, 3.0, 0.0], [0.0, 0.0, 0.0], [2.0, 2.0, 4.0]]])
    expected = torch.tensor([[[0.25, 0.75, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]]])
    assert torch.equal(row_shares(influence), expected)
    assert torch.equal(row_shares(influence * 1e-30), expected)


def test_a_slot_depends_equally_on_the_slots_that_it_touches():
    contact = torch.zeros(1, 7, 7, dtype=torch.bool)
    for a, b in [(0, 1), (0, 2)]:
        contact[0, a, b] = contact[0, b, a] = True
    graph = touching(contact)
    assert torch.equal(graph[0, 0], torch.tensor([1, 1, 1, 0, 0, 0, 0]) / 3)
    assert torch.equal(graph[0, 1], torch.tensor([1, 1, 0, 0, 0, 0, 0]) / 2)
    assert torch.equal(graph[0, 3], torch.tensor([0.0, 0, 0, 1, 0, 0, 0]))
    crowd = ~torch.eye(7, dtype=torch.bool)[None]
    crowd[:, 6] = crowd[:, :, 6] = False  # six objects that all touch each other: the maximum
    assert bool((touching(crowd)[0, :6, :6] >= 0.15).all())  # still neighbours at the published threshold
