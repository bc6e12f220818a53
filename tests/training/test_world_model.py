"""Training the world model: what a state depends on, what stopping and forking leave, what validation says."""

from __future__ import annotations

import dataclasses
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ctt.core import build_context as job_module
from ctt.core.build_context import BuildContext, read_metrics
from ctt.core.errors import DataError, Diverged, Interrupted, SettingError, StoreError
from ctt.models.masking import draw_masked
from ctt.models.method import Method
from ctt.models.model_settings import GraphSettings, LearnedSettings, MaskingSettings, RolloutSettings
from ctt.training import trainer, world_model
from ctt.training.seeds import generator
from ctt.training.state import MODEL, OPTIMIZER, SIDE, STATE, WEIGHTS
from ctt.training.training_settings import WindowSettings, WorldModelSettings
from tests.models.literal_world_model import LiteralPredictor, literal_rollout
from tests.training.standin import GIVEN, WIDTH, StandIn

SMALL = dict(depth=2, heads=2, mlp_width=24, frameskip=2, batch_size=16, micro_batch=8, num_preds=2)
LOSSES = dict(inv_weight=0.2, suf_weight=0.1, adj_threshold=0.14)


def settings(**changes) -> WorldModelSettings:
    values = {**SMALL, "windows": WindowSettings(per_epoch=80, validation=20), **changes}
    return WorldModelSettings(**values)


def run(folder, end, *, begin=0, start=None, method=None, data=None, seed=3, masked=2, job=None, **changes):
    folder.mkdir(exist_ok=True)
    return world_model.train(
        settings(**changes),
        method or Method(),
        masked,
        seed,
        data or StandIn(),
        start=start,
        epoch_start=begin,
        epoch_end=end,
        job=job or BuildContext(folder),
    )


def bytes_of(folder):
    names = (MODEL, OPTIMIZER, STATE, SIDE, WEIGHTS)
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def losses_of(folder):
    return [{k: v for k, v in line.items() if k != "t"} for line in read_metrics(folder / "metrics.jsonl")]


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
def test_forked_is_uninterrupted_through_the_start_of_the_losses(tmp_path, recipe):
    method = Method(start_epoch=1, **LOSSES)
    run(tmp_path / "whole", 3, method=method, **RECIPES[recipe])
    for fork in (1, 2):
        run(tmp_path / f"first{fork}", fork, method=method, **RECIPES[recipe])
        run(tmp_path / f"rest{fork}", 3, begin=fork, start=tmp_path / f"first{fork}", method=method, **RECIPES[recipe])
        assert bytes_of(tmp_path / f"rest{fork}") == bytes_of(tmp_path / "whole")
    assert losses_of(tmp_path / "first1") + losses_of(tmp_path / "rest1") == losses_of(tmp_path / "whole")


def test_state_at_the_start_does_not_know_the_losses(tmp_path):
    run(tmp_path / "plain", 2)
    run(tmp_path / "later", 2, method=Method(start_epoch=2, **LOSSES))
    run(tmp_path / "acting", 2, method=Method(start_epoch=1, **LOSSES))
    assert bytes_of(tmp_path / "plain") == bytes_of(tmp_path / "later")
    assert bytes_of(tmp_path / "plain")[MODEL] != bytes_of(tmp_path / "acting")[MODEL]
    first, second = losses_of(tmp_path / "acting")
    assert "invariance" not in first and second["invariance"] > 0 and second["sufficiency"] > 0
    total = second["masked"] + second["future"] + 0.2 * second["invariance"] + 0.1 * second["sufficiency"]
    assert second["train_loss"] == pytest.approx(total, rel=1e-6)


def test_one_inactive_loss_leaves_the_other_and_everything_else_alone(tmp_path):
    run(tmp_path / "zero", 1, method=Method(inv_weight=0.2, suf_weight=0.0, start_epoch=0))
    run(tmp_path / "tiny", 1, method=Method(inv_weight=0.2, suf_weight=1e-30, start_epoch=0))
    zero, tiny = losses_of(tmp_path / "zero")[0], losses_of(tmp_path / "tiny")[0]
    assert "sufficiency" not in zero and tiny["sufficiency"] > 0
    assert zero["invariance"] == pytest.approx(tiny["invariance"], rel=1e-3)  # same draws; the dropout of views differs


@pytest.mark.parametrize("threshold", [0.0, 1.0], ids=["full graph", "empty graph"])
def test_a_learned_graph_never_alters_the_predictor(tmp_path, threshold):
    """Where the threshold decides alone who is a neighbour, training is that of the attention graph, bit for bit."""
    method = Method(inv_weight=0.2, suf_weight=0.1, adj_threshold=threshold, start_epoch=1)
    run(tmp_path / "read", 3, method=method)
    run(tmp_path / "learned", 3, method=method, graph=GraphSettings(source="learned"))
    read, learned = bytes_of(tmp_path / "read"), bytes_of(tmp_path / "learned")
    assert learned.pop(SIDE) and read == learned
    acts = losses_of(tmp_path / "learned")[-1]
    assert (acts["invariance"] > 0) == (acts["sufficiency"] > 0) == (threshold == 1.0)
    assert all(
        line["influence_error"] > 0 and line["influence_others"] > 0 for line in losses_of(tmp_path / "learned")[1:]
    )


def test_a_learned_graph_is_told_nothing_of_what_is_in_view(tmp_path):
    """CLEVRER's files don't say it: where the simulator does, the same network is learnt."""
    known, other = StandIn(), StandIn()
    other.split("train").visible = None
    found = []
    for name, data in (("known", known), ("unknown", other)):
        run(
            tmp_path / name, 1, method=Method(start_epoch=0, **LOSSES), graph=GraphSettings(source="learned"), data=data
        )
        found.append(bytes_of(tmp_path / name))
    assert found[0][SIDE] == found[1][SIDE] and found[0] == found[1]


def test_a_learned_graph_is_made_at_the_start_epoch_and_counts_from_there(tmp_path):
    method, graph = Method(start_epoch=1, **LOSSES), GraphSettings(source="learned")
    run(tmp_path / "before", 1, method=method, graph=graph)
    assert SIDE not in bytes_of(tmp_path / "before") and "influence_error" not in losses_of(tmp_path / "before")[0]
    run(tmp_path / "after", 2, begin=1, start=tmp_path / "before", method=method, graph=graph)
    side = load_file(tmp_path / "after" / SIDE)
    assert side["optimizer/0/project.weight/step"] == 5 and {name.split("/")[0] for name in side} == {
        "model",
        "optimizer",
    }
    run(tmp_path / "attention", 2, method=method)
    assert bytes_of(tmp_path / "attention")[MODEL] != bytes_of(tmp_path / "after")[MODEL]  # the graph is read
    (tmp_path / "after" / SIDE).unlink()
    with pytest.raises(StoreError, match="step 0 of epoch 2 lacks the network of source=learned"):
        run(tmp_path / "torn", 3, begin=2, start=tmp_path / "after", method=method, graph=graph)


def test_an_oracle_needs_truth_and_trains_on_it(tmp_path):
    """Contacts put into the truth are the neighbours; without truth there is a clear word before any work."""
    graph = GraphSettings(source="oracle")
    with pytest.raises(DataError, match="no truth"):
        run(tmp_path / "job", 1, method=Method(start_epoch=0, **LOSSES), graph=graph)
    data = StandIn()
    crowd = np.zeros((12, 178, 6, 6), dtype=bool)
    data.split("train").truth = SimpleNamespace(contact=crowd, slot_of=np.tile(np.arange(6), (12, 178, 1)))
    run(tmp_path / "nobody", 1, method=Method(start_epoch=0, **LOSSES), graph=graph, data=data)
    assert losses_of(tmp_path / "nobody")[0]["sufficiency"] > 0
    run(tmp_path / "empty", 1, method=Method(0.2, 0.1, 1.0, 0), data=data)
    assert bytes_of(tmp_path / "nobody") == bytes_of(tmp_path / "empty")  # nobody touches: as with an empty graph
    crowd |= ~np.eye(6, dtype=bool)
    run(tmp_path / "crowd", 1, method=Method(start_epoch=0, **LOSSES), graph=graph, data=data)
    assert bytes_of(tmp_path / "crowd") != bytes_of(tmp_path / "nobody")
    assert losses_of(tmp_path / "crowd")[0]["invariance"] > 0  # the seventh slot touches nobody


@pytest.mark.parametrize("source", ["attention", "learned"])
@pytest.mark.parametrize("at", [(0, 2), (1, 0), (1, 3)])
def test_killed_in_an_epoch_and_continued_is_uninterrupted(tmp_path, monkeypatch, at, source):
    method = Method(start_epoch=1, **LOSSES)
    more = dict(method=method, optimizer="muon", graph=GraphSettings(source=source))
    run(tmp_path / "whole", 2, **more)
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    real = world_model.WorldModelLearner.gradients

    def dying(self, epoch, step):
        values = real(self, epoch, step)
        if (epoch, step) == at:
            raise KeyError("killed")
        return values

    monkeypatch.setattr(world_model.WorldModelLearner, "gradients", dying)
    with pytest.raises(KeyError):
        run(tmp_path / "job", 2, **more)
    monkeypatch.setattr(world_model.WorldModelLearner, "gradients", real)
    run(tmp_path / "job", 2, **more)
    assert bytes_of(tmp_path / "job") == bytes_of(tmp_path / "whole")
    assert losses_of(tmp_path / "job") == losses_of(tmp_path / "whole")
    assert (tmp_path / "job" / "metrics.json").read_bytes() == (tmp_path / "whole" / "metrics.json").read_bytes()


def test_asked_to_stop_it_checkpoints_and_continues(tmp_path):
    run(tmp_path / "whole", 2)
    job_module._stop.set()
    try:
        for _ in range(9):  # every call gets one step further
            with pytest.raises(Interrupted):
                run(tmp_path / "job", 2)
    finally:
        job_module._stop.clear()
    run(tmp_path / "job", 2)
    assert bytes_of(tmp_path / "job") == bytes_of(tmp_path / "whole")


def test_state_0_is_the_seeds_initial_weights(tmp_path):
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        run(tmp_path / name, 0, seed=seed)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b") != bytes_of(tmp_path / "c")


@pytest.mark.parametrize(
    "change",
    [
        dict(precision="bf16"),
        dict(share_dropout=False),
        dict(dropout_kind="cheap"),
        dict(loss_on="visible"),
        dict(optimizer="muon"),
        dict(micro_batch=None),
        dict(masking=MaskingSettings(draw="fixed")),
        dict(graph=GraphSettings(scope="batch")),
        dict(graph=GraphSettings(frames="mean")),
        dict(graph=GraphSettings(source="jacobian")),
        dict(windows=WindowSettings(per_epoch=80, validation=20, all_starts=False)),
    ],
    ids=str,
)
def test_every_setting_changes_what_is_trained(tmp_path, change):
    method = Method(start_epoch=0, **LOSSES)
    run(tmp_path / "default", 1, method=method)
    run(tmp_path / "changed", 1, method=method, **change)
    assert bytes_of(tmp_path / "default")[MODEL] != bytes_of(tmp_path / "changed")[MODEL]


@pytest.mark.parametrize(
    "one, other",
    [
        (dict(source="jacobian"), dict(source="jacobian", projections=2)),
        *(
            (dict(source="learned"), dict(source="learned", learned=LearnedSettings(**change)))
            for change in (dict(price=5.0), dict(width=16), dict(learning_rate=0.01), dict(windows=8))
        ),
    ],
    ids=str,
)
def test_a_sources_own_settings_change_what_is_trained(tmp_path, one, other):
    for name, graph in (("one", one), ("other", other)):
        run(tmp_path / name, 2, method=Method(start_epoch=0, **LOSSES), graph=GraphSettings(**graph), masked=0)
    assert bytes_of(tmp_path / "one")[MODEL] != bytes_of(tmp_path / "other")[MODEL]


def test_micro_batches_are_the_same_training_but_for_rounding(tmp_path):
    for name, size in [("whole", None), ("pieces", 5)]:
        run(tmp_path / name, 1, method=Method(start_epoch=0, **LOSSES), dropout=0.0, micro_batch=size)
    whole, pieces = losses_of(tmp_path / "whole")[0], losses_of(tmp_path / "pieces")[0]
    assert whole == pytest.approx(pieces, rel=1e-3)


@pytest.mark.skipif(os.environ.get("CTT_COMPILE") != "1", reason="compiling takes minutes: CTT_COMPILE=1 runs this")
@pytest.mark.parametrize("kind", ["exact", "cheap"])
def test_compiled_training_is_the_eager_one_but_for_rounding(tmp_path, kind):
    """With both losses and dropout, whose masks are drawn before the compiled passes; its state is read by an eager model."""
    more = dict(method=Method(start_epoch=1, **LOSSES), dropout_kind=kind)
    for name, compiled in (("eager", False), ("compiled", True)):
        run(tmp_path / name, 2, compile=compiled, **more)
    for one, other in zip(losses_of(tmp_path / "eager"), losses_of(tmp_path / "compiled"), strict=True):
        assert one == pytest.approx(other, rel=1e-3)
    history = torch.randn(2, 3, 7, WIDTH)
    eager, compiled = (world_model.load(tmp_path / name, settings()).predict(history) for name in ("eager", "compiled"))
    assert (eager - compiled).abs().mean() < 1e-3 * eager.abs().mean()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_it_learns_and_says_so_beside_trivial_predictions(tmp_path, optimizer):
    data = StandIn(train=40)
    validation = run(
        tmp_path / "job",
        12,
        data=data,
        optimizer=optimizer,
        learning_rate=0.003,
        muon_rate=0.01,
        dropout=0.0,
        windows=WindowSettings(),
    )["validation"]
    assert json.loads((tmp_path / "job" / "metrics.json").read_text())["validation"] == validation
    history = losses_of(tmp_path / "job")
    assert history[-1]["validation_error"] < history[0]["validation_error"] / 2
    assert validation["error"] == pytest.approx(history[-1]["validation_error"], rel=1e-6)
    split, frames = data.split("validation"), np.arange(GIVEN - 8)  # 3 given and 2 predicted frames, 2 apart
    last = split.slots[:, frames + 4]
    copied = np.mean([np.square(split.slots[:, frames + 4 + 2 * n] - last).mean() for n in (1, 2)])
    assert validation["copy_last"] == pytest.approx(copied, rel=1e-5)
    assert validation["linear"] == pytest.approx(0, abs=1e-10)  # these slots move in straight lines
    seen = [
        (np.square(split.slots[:, frames + 4 + 2 * n] - last).mean(-1), split.visible[:, frames + 4 + 2 * n])
        for n in (1, 2)
    ]
    visible = sum((e * v).sum() for e, v in seen) / sum(v.sum() for _, v in seen)
    assert validation["copy_last_visible"] == pytest.approx(visible, rel=1e-5)


@pytest.mark.parametrize("draw", ["batch", "fixed"])
def test_validation_tells_of_hidden_slots_too(tmp_path, monkeypatch, draw):
    """Under masks that stay: against the literal predictor, slot by slot. What is kept of a state knows nothing of it."""
    monkeypatch.setattr(world_model, "MASKED_WINDOWS", 10)
    made, data = settings(masking=MaskingSettings(draw=draw)), StandIn()
    kept = run(tmp_path / "job", 2, data=data, masking=made.masking)
    validation = world_model.Validation(made, data.split("validation"))
    window = torch.from_numpy(validation.windows.gather(validation.index[::2]))
    each = made.masking if draw == "fixed" else MaskingSettings(draw="sample")
    masked = draw_masked(each, 2, 10, 7, generator(0, "validation masks"))
    theirs = LiteralPredictor(3, 2, 2, 2, 24, WIDTH)
    theirs.load_state_dict(world_model.load(tmp_path / "job", made).state_dict())
    grid, _ = theirs(window, [row.nonzero().flatten().tolist() for row in masked])
    errors = [(grid[b, :3, s] - window[b, :3, s]).square().mean() for b, s in masked.nonzero().tolist()]
    assert len(errors) == 20
    logged = losses_of(tmp_path / "job")[-1]["validation_masked"]
    assert logged == pytest.approx(float(torch.stack(errors).mean().detach()), rel=1e-4)
    assert kept["validation"].keys() == validation.trivial.keys() | {"error", "error_visible"}
    run(tmp_path / "none", 1, masked=0)
    assert "validation_masked" not in losses_of(tmp_path / "none")[0]


def test_muon_moves_the_layers_matrices_and_adamw_the_rest():
    learner = world_model.WorldModelLearner(settings(optimizer="muon"), Method(), 2, 0, StandIn(), "cpu")
    names = {id(p): n for n, p in learner.model.named_parameters()}
    adamw, muon = ({names[id(p)] for g in o.param_groups for p in g["params"]} for o in learner.optimizers)
    assert isinstance(learner.optimizers[1], torch.optim.Muon)
    assert muon == {f"transformer.layers.{i}.{n}.weight" for i in (0, 1) for n in ("0.out_proj", "1.1", "1.4")} | {
        f"transformer.layers.{i}.0.in_proj_weight" for i in (0, 1)
    }
    assert muon | adamw == set(names.values()) and not muon & adamw
    (only,) = world_model.optimizers_for(learner.model, settings())
    assert isinstance(only, torch.optim.AdamW) and only.param_groups[0]["weight_decay"] == 0.01


def test_an_epoch_sees_every_window_once_in_an_order_of_its_own():
    learner = world_model.WorldModelLearner(settings(windows=WindowSettings()), Method(), 2, 0, StandIn(), "cpu")
    assert learner.windows.count == 12 * (GIVEN - 8) and learner.steps == learner.windows.count // 16
    first, second = learner._epoch_order(0).copy(), learner._epoch_order(1).copy()
    assert sorted(first) == list(range(learner.windows.count)) and not np.array_equal(first, second)
    reference = settings(windows=WindowSettings(all_starts=False))
    assert world_model.windows_of(reference, StandIn().split("train")).count == 12 * (GIVEN - 9)


def test_a_weight_that_is_no_number_stops_training(tmp_path):
    data = StandIn()
    data.split("train").slots[3, 10] = np.nan
    with pytest.raises(Diverged, match="train_loss became nan in step"):
        run(tmp_path / "job", 2, data=data, windows=WindowSettings())


def test_an_error_that_explodes_stops_training_before_it_is_infinite(tmp_path):
    with pytest.raises(
        Diverged, match=r"validation_error became .* over 1000 times what repeating the last frame gives"
    ):
        run(tmp_path / "job", 2, learning_rate=10.0)


def test_what_cannot_be_is_refused_before_any_work(tmp_path):
    with pytest.raises(SettingError, match="num_masked_slots must lie in 0..7, got 8"):
        run(tmp_path / "job", 1, masked=8)
    with pytest.raises(SettingError, match="batch_size 100000 is more than"):
        run(tmp_path / "job", 1, batch_size=100_000)
    with pytest.raises(SettingError, match="masking.draw=sample needs world_model.graph.scope=sample"):
        settings(masking=MaskingSettings(draw="sample"), graph=GraphSettings(scope="batch"))
    with pytest.raises(SettingError, match="do not fit"):
        run(tmp_path / "job", 1, frameskip=9)
    assert not (tmp_path / "job" / MODEL).exists()


def test_settings_say_what_they_do():
    for cls in (WorldModelSettings, WindowSettings):
        assert all(len(field.metadata["help"]) > 10 for field in dataclasses.fields(cls)), cls


@pytest.mark.parametrize("dtype,tolerance", [("float32", 1e-5), ("float16", 2e-3)])
def test_roll_out_writes_frames_and_their_errors(tmp_path, dtype, tolerance):
    data = StandIn()
    run(tmp_path / "state", 1)
    (tmp_path / "out").mkdir()
    job = BuildContext(tmp_path / "out")
    metrics = world_model.roll_out(settings(), RolloutSettings(batch=2, dtype=dtype), tmp_path / "state", data, job=job)
    theirs = LiteralPredictor(3, 2, 2, 2, 24, WIDTH)
    theirs.load_state_dict(world_model.load(tmp_path / "state", settings()).state_dict())
    for name in ("train", "validation"):
        made = np.load(tmp_path / "out" / f"rollout_{name}.npy")
        with torch.no_grad():
            expected = literal_rollout(theirs, torch.from_numpy(data.split(name).slots), 2, 32)
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


def test_roll_out_without_a_known_future_measures_nothing(tmp_path):
    run(tmp_path / "state", 0)
    (tmp_path / "out").mkdir()
    data = StandIn(truth=False)
    job = BuildContext(tmp_path / "out")
    assert world_model.roll_out(settings(), RolloutSettings(), tmp_path / "state", data, job=job) == {}


def test_loading_another_model_is_refused(tmp_path):
    run(tmp_path / "state", 0)
    with pytest.raises(StoreError, match="does not hold this world model"):
        world_model.load(tmp_path / "state", settings(depth=3))
