"""States of world model training: what they depend on, and that branching and interruption leave the same bytes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import load_file

from ctt.core import build_context
from ctt.core.errors import DataError, Interrupted, StoreError
from ctt.models.method import Method
from ctt.models.model_settings import GraphSettings, MaskingSettings
from ctt.training import trainer
from ctt.training.state import MODEL, SIDE
from ctt.training.trainer import Segment
from ctt.training.training_settings import WindowSettings
from ctt.training.world_model import WorldModelLearner
from tests.training.small_world_model import LOSSES, bytes_of, lines_of, run
from tests.training.standin import StandIn

RECIPES = {
    "default": {},
    "muon, cheap": dict(optimizer="muon", dropout_kind="cheap"),
    "reference": dict(
        share_dropout=False,
        graph=GraphSettings(frames="mean", scope="batch", dropout="after"),
        masking=MaskingSettings(draw="fixed"),
        windows=WindowSettings(all_starts=False, per_epoch=80),
    ),
    "sample masks, composed graph": dict(
        masking=MaskingSettings(draw="sample"), graph=GraphSettings(source="rollout_attention"), loss_on="visible"
    ),
    "jacobian": dict(graph=GraphSettings(source="jacobian")),
    "learned": dict(graph=GraphSettings(source="learned"), average=0.9),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_branched_training_gives_the_bytes_of_uninterrupted_training(tmp_path, recipe):
    """The branch points are at the start of the losses and after it."""
    method = Method(start_epoch=1, **LOSSES)
    run(tmp_path / "whole", 3, method=method, **RECIPES[recipe])
    for epoch in (1, 2):
        prefix, branch = tmp_path / f"prefix{epoch}", tmp_path / f"branch{epoch}"
        run(prefix, epoch, method=method, **RECIPES[recipe])
        run(branch, Segment(3, epoch, prefix), method=method, **RECIPES[recipe])
        assert bytes_of(branch) == bytes_of(tmp_path / "whole")
    assert lines_of(tmp_path / "prefix1", tmp_path / "branch1") == lines_of(tmp_path / "whole")


def test_the_state_at_the_start_epoch_does_not_depend_on_the_losses(tmp_path):
    run(tmp_path / "plain", 2)
    run(tmp_path / "later", 2, method=Method(start_epoch=2, **LOSSES))
    run(tmp_path / "acting", 2, method=Method(start_epoch=1, **LOSSES))
    assert bytes_of(tmp_path / "plain") == bytes_of(tmp_path / "later")
    assert bytes_of(tmp_path / "plain")[MODEL] != bytes_of(tmp_path / "acting")[MODEL]
    first, second = lines_of(tmp_path / "acting")
    assert "invariance" not in first and second["invariance"] > 0 and second["sufficiency"] > 0
    total = second["masked"] + second["future"] + 0.2 * second["invariance"] + 0.1 * second["sufficiency"]
    assert second["train_loss"] == pytest.approx(total, rel=1e-6)


def test_an_inactive_loss_does_not_affect_the_other_one(tmp_path):
    run(tmp_path / "zero", 1, method=Method(inv_weight=0.2, suf_weight=0.0, start_epoch=0))
    run(tmp_path / "tiny", 1, method=Method(inv_weight=0.2, suf_weight=1e-30, start_epoch=0))
    zero, tiny = lines_of(tmp_path / "zero")[0], lines_of(tmp_path / "tiny")[0]
    assert "sufficiency" not in zero and tiny["sufficiency"] > 0
    assert zero["invariance"] == pytest.approx(tiny["invariance"], rel=1e-3)  # same draws; the dropout of views differs


@pytest.mark.parametrize("threshold", [0.0, 1.0], ids=["full graph", "empty graph"])
def test_a_learned_graph_never_alters_the_predictor(tmp_path, threshold):
    """If the threshold makes all or no slots neighbours, training gives the bytes of that with the attention graph."""
    method = Method(inv_weight=0.2, suf_weight=0.1, adj_threshold=threshold, start_epoch=1)
    run(tmp_path / "read", 3, method=method)
    run(tmp_path / "learned", 3, method=method, graph=GraphSettings(source="learned"))
    read, learned = bytes_of(tmp_path / "read"), bytes_of(tmp_path / "learned")
    assert learned.pop(SIDE) and read == learned
    last = lines_of(tmp_path / "learned")[-1]
    assert (last["invariance"] > 0) == (last["sufficiency"] > 0) == (threshold == 1.0)
    assert all(line["influence_error"] > 0 and line["influence_others"] > 0 for line in lines_of(tmp_path / "learned")[1:])


def test_a_learned_graph_does_not_use_visibility(tmp_path):
    """CLEVRER's files do not record it: with and without it the same network is learned."""
    known, other = StandIn(), StandIn()
    other.split("train").visible = None
    found = []
    for name, data in (("known", known), ("unknown", other)):
        run(tmp_path / name, 1, method=Method(start_epoch=0, **LOSSES), graph=GraphSettings(source="learned"), data=data)
        found.append(bytes_of(tmp_path / name))
    assert found[0][SIDE] == found[1][SIDE] and found[0] == found[1]


def test_the_side_network_is_created_at_the_start_epoch(tmp_path):
    method, graph = Method(start_epoch=1, **LOSSES), GraphSettings(source="learned")
    run(tmp_path / "before", 1, method=method, graph=graph)
    assert SIDE not in bytes_of(tmp_path / "before") and "influence_error" not in lines_of(tmp_path / "before")[0]
    run(tmp_path / "after", Segment(2, 1, tmp_path / "before"), method=method, graph=graph)
    side = load_file(tmp_path / "after" / SIDE)
    assert side["optimizer/0/project.weight/step"] == 5 and {name.split("/")[0] for name in side} == {
        "model",
        "optimizer",
    }
    run(tmp_path / "attention", 2, method=method)
    assert bytes_of(tmp_path / "attention")[MODEL] != bytes_of(tmp_path / "after")[MODEL]  # the graph has an effect
    (tmp_path / "after" / SIDE).unlink()
    with pytest.raises(StoreError, match="step 0 of epoch 2 lacks the network of source=learned"):
        run(tmp_path / "torn", Segment(3, 2, tmp_path / "after"), method=method, graph=graph)


def test_an_oracle_graph_needs_true_interactions_and_uses_them(tmp_path):
    """Contacts in the truth are the neighbours; without truth an error is raised before any work."""
    graph = GraphSettings(source="oracle")
    with pytest.raises(DataError, match="has no truth"):
        run(tmp_path / "job", 1, method=Method(start_epoch=0, **LOSSES), graph=graph)
    data = StandIn()
    contact = np.zeros((12, 178, 6, 6), dtype=bool)
    data.split("train").truth = SimpleNamespace(contact=contact, slot_of=np.tile(np.arange(6), (12, 178, 1)))
    run(tmp_path / "none", 1, method=Method(start_epoch=0, **LOSSES), graph=graph, data=data)
    assert lines_of(tmp_path / "none")[0]["sufficiency"] > 0
    run(tmp_path / "empty", 1, method=Method(0.2, 0.1, 1.0, 0), data=data)
    assert bytes_of(tmp_path / "none") == bytes_of(tmp_path / "empty")  # no contacts: as with an empty graph
    contact |= ~np.eye(6, dtype=bool)
    run(tmp_path / "all", 1, method=Method(start_epoch=0, **LOSSES), graph=graph, data=data)
    assert bytes_of(tmp_path / "all") != bytes_of(tmp_path / "none")
    assert lines_of(tmp_path / "all")[0]["invariance"] > 0  # the seventh slot touches none


@pytest.mark.parametrize("source", ["attention", "learned"])
@pytest.mark.parametrize("at", [(0, 2), (1, 0), (1, 3)])
def test_killed_and_resumed_training_gives_the_bytes_of_uninterrupted_training(tmp_path, monkeypatch, at, source):
    method = Method(start_epoch=1, **LOSSES)
    more = dict(method=method, optimizer="muon", graph=GraphSettings(source=source))
    run(tmp_path / "whole", 2, **more)
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    real = WorldModelLearner.gradients

    def dying(self, epoch, step):
        values = real(self, epoch, step)
        if (epoch, step) == at:
            raise KeyError("killed")
        return values

    monkeypatch.setattr(WorldModelLearner, "gradients", dying)
    with pytest.raises(KeyError):
        run(tmp_path / "job", 2, **more)
    monkeypatch.setattr(WorldModelLearner, "gradients", real)
    run(tmp_path / "job", 2, **more)
    assert bytes_of(tmp_path / "job") == bytes_of(tmp_path / "whole")
    assert lines_of(tmp_path / "job") == lines_of(tmp_path / "whole")
    assert (tmp_path / "job" / "metrics.json").read_bytes() == (tmp_path / "whole" / "metrics.json").read_bytes()


def test_training_that_is_asked_to_stop_writes_a_checkpoint_and_resumes(tmp_path):
    run(tmp_path / "whole", 2)
    build_context._stop.set()
    try:
        for _ in range(9):  # every call makes one step
            with pytest.raises(Interrupted):
                run(tmp_path / "job", 2)
    finally:
        build_context._stop.clear()
    run(tmp_path / "job", 2)
    assert bytes_of(tmp_path / "job") == bytes_of(tmp_path / "whole")


def test_state_0_holds_initial_weights_drawn_from_the_seed(tmp_path):
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        run(tmp_path / name, 0, seed=seed)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b") != bytes_of(tmp_path / "c")
