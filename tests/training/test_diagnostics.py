"""Diagnostics of a state: its graphs as read in training, and its loss terms."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest

from ctt.core.build_context import BuildContext, read_metrics
from ctt.models.method import Method
from ctt.models.model_settings import GraphSettings
from ctt.training import world_model
from ctt.training.diagnostics import diagnose
from ctt.training.diagnostics_settings import DiagnosticsSettings
from ctt.training.trainer import Segment
from ctt.training.training_settings import WindowSettings, WorldModelSettings
from tests.training.standin import StandIn

LOSSES = Method(inv_weight=0.2, suf_weight=0.1, adj_threshold=0.14, start_epoch=0)


def settings(**changes) -> WorldModelSettings:
    small = dict(depth=2, heads=2, mlp_width=24, frameskip=2, batch_size=16, micro_batch=8, num_preds=2, epochs=1)
    return WorldModelSettings(**{**small, "windows": WindowSettings(per_epoch=80, validation=20), **changes})


def with_truth(data: StandIn) -> StandIn:
    """The same data with permanent contacts: of slots 0 and 1, and of 2 and 3."""
    contact = np.zeros((12, 178, 6, 6), dtype=bool)
    for a, b in [(0, 1), (2, 3)]:
        contact[:, :, a, b] = contact[:, :, b, a] = True
    truth = SimpleNamespace(contact=contact, slot_of=np.tile(np.arange(6), (12, 178, 1)))
    for name in data.splits:
        data.split(name).truth = truth
    data.has_truth = True
    return data


def diagnosed(tmp_path, method=LOSSES, data=None, masked=2, name="out", **changes):
    data, made = data or StandIn(), settings(**changes)
    state = tmp_path / "state"
    if not state.exists():
        state.mkdir()
        world_model.train(made, method, masked, 3, data, Segment(1), context=BuildContext(state))
    folder = tmp_path / name
    folder.mkdir()
    measured = DiagnosticsSettings(windows=40)
    return diagnose(made, method, masked, 3, measured, state, data, context=BuildContext(folder))


def test_graphs_of_every_source_are_read_reproducibly(tmp_path):
    data = with_truth(StandIn())
    graph = GraphSettings(source="learned")
    found = diagnosed(tmp_path, data=data, graph=graph)
    assert set(found["readings"]) == {
        "published attention", "attention", "rollout_attention", "jacobian", "learned", "oracle",
    }  # fmt: skip
    assert found["own"] == "learned" and found["acting"] and (found["windows"], found["batch"]) == (40, 16)
    assert found["touching"] == 2.0
    for name, reading in found["readings"].items():
        total = np.array(reading["mean"]).sum(-1)  # the published one is the mean over 5 frames, read after dropout
        assert np.allclose(total, *((0.2, 0.1) if name == "published attention" else (1.0, 1e-6))), name
        assert reading["auroc"] is not None
    oracle = found["readings"]["oracle"]
    assert oracle["auroc"] == oracle["average_precision"] == 1.0 and oracle["density"] == pytest.approx(4 / 42)
    assert oracle["mean"][0][1] == 0.5 and oracle["mean"][4][4] == 1.0
    again = diagnosed(tmp_path, data=data, graph=graph, name="again")
    assert again == found == json.loads((tmp_path / "out" / "metrics.json").read_text())
    (line,) = read_metrics(tmp_path / "out" / "metrics.jsonl")
    assert line["step"] == 1 and line["graph_density"] == found["readings"]["learned"]["density"]


def test_without_truth_and_side_network_their_graphs_are_missing(tmp_path):
    found = diagnosed(tmp_path)
    assert set(found["readings"]) == {"published attention", "attention", "rollout_attention", "jacobian"}
    assert found["own"] == "attention" and found["touching"] is None and found["readings"]["attention"]["auroc"] is None


def test_a_run_s_graph_that_is_none_of_the_named_ones_is_read_too(tmp_path):
    found = diagnosed(tmp_path, graph=GraphSettings(scope="batch"))
    own, sample = found["readings"]["own"], found["readings"]["attention"]
    assert found["own"] == "own" and np.allclose(own["mean"], sample["mean"])
    assert own["quantiles"][100] < sample["quantiles"][100]  # means of batches, not single scenes


def test_invariance_with_equal_slot_masks_is_zero_with_shared_dropout_and_large_without(tmp_path):
    found = diagnosed(tmp_path, method=Method(0.2, 0.1, 1.0, 0))
    assert found["losses"]["dropout"] == 0.1 and found["losses"]["share_dropout"]
    assert found["losses"]["terms"]["invariance"] > 0 and found["losses"]["remaining"] < 1e-6
    published = found["published_losses"]
    assert not published["share_dropout"] and published["remaining"] > 0.3
    assert published["same_masks"] == pytest.approx(published["remaining"] * published["terms"]["invariance"])
    without = diagnosed(tmp_path, method=Method(0.2, 0.1, 1.0, 0), name="without", dropout=0.0)
    assert without["losses"]["remaining"] < 1e-6 and without["published_losses"]["dropout"] == 0.1


def test_with_a_full_graph_the_losses_are_0(tmp_path):
    found = diagnosed(tmp_path, method=Method(0.2, 0.1, 0.0, 0))
    losses = found["losses"]
    assert losses["terms"]["invariance"] == losses["terms"]["sufficiency"] == 0 and losses["same_masks"] is None
    assert losses["gradient_norms"]["invariance"] == 0 < losses["gradient_norms"]["prediction"]
    assert found["readings"]["attention"]["zero"] == {"invariance": 1.0, "sufficiency": 1.0}


@pytest.mark.parametrize("threshold, word", [(0.9, "empty"), (0.0, "full"), (0.14, None)])
def test_an_empty_or_full_graph_is_warned_of_if_the_losses_act(tmp_path, caplog, threshold, word):
    with caplog.at_level(logging.WARNING, "ctt"):
        diagnosed(tmp_path, method=Method(0.2, 0.1, threshold, 0))
        assert (caplog.messages == []) == (word is None)
        assert all(f"is {word} at ctt_adj_threshold {threshold:g}" in message for message in caplog.messages)
        caplog.clear()
        diagnosed(tmp_path, method=Method(0.0, 0.0, threshold, 0), name="idle")
        assert caplog.messages == []


def test_the_state_is_not_changed(tmp_path):
    diagnosed(tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "state").iterdir()}
    diagnosed(tmp_path, name="again", masked=0)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "state").iterdir()}
