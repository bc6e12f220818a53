"""Training the world model: settings, optimizers, validation and errors."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import pytest
import torch
from torch import nn

from ctt.core.errors import Diverged, SettingError
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.masking import draw_masked
from ctt.models.method import Method
from ctt.models.model_settings import GraphSettings, LearnedSettings, MaskingSettings
from ctt.training import validation as validation_module
from ctt.training import world_model
from ctt.training.batches.window_batches import windows_of
from ctt.training.optimizers import Float32Muon, aloe_optimizers, muon, orthogonal
from ctt.training.rollout import load
from ctt.training.seeds import generator
from ctt.training.state import MODEL
from ctt.training.training_settings import WindowSettings, WorldModelSettings
from ctt.training.validation import Validation
from ctt.training.world_model import WorldModelLearner, optimizers_for
from tests.models.literal_world_model import LiteralPredictor
from tests.training.small_world_model import LOSSES, bytes_of, lines_of, run, settings
from tests.training.standin import GIVEN, WIDTH, StandIn


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
def test_settings_change_the_trained_weights(tmp_path, change):
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
def test_settings_of_a_graph_source_change_the_trained_weights(tmp_path, one, other):
    for name, graph in (("one", one), ("other", other)):
        run(tmp_path / name, 2, method=Method(start_epoch=0, **LOSSES), graph=GraphSettings(**graph), masked=0)
    assert bytes_of(tmp_path / "one")[MODEL] != bytes_of(tmp_path / "other")[MODEL]


def test_micro_batches_give_the_same_training_up_to_rounding(tmp_path):
    for name, size in [("whole", None), ("pieces", 5)]:
        run(tmp_path / name, 1, method=Method(start_epoch=0, **LOSSES), dropout=0.0, micro_batch=size)
    whole, pieces = lines_of(tmp_path / "whole")[0], lines_of(tmp_path / "pieces")[0]
    assert whole == pytest.approx(pieces, rel=1e-3)


@pytest.mark.skipif(os.environ.get("CTT_COMPILE") != "1", reason="compiling takes minutes: CTT_COMPILE=1 runs this")
@pytest.mark.parametrize("kind", ["exact", "cheap"])
def test_compiled_training_equals_eager_training_up_to_rounding(tmp_path, kind):
    """With both losses and dropout, whose masks are drawn before the compiled passes; an eager model loads its state."""
    more = dict(method=Method(start_epoch=1, **LOSSES), dropout_kind=kind)
    for name, compiled in (("eager", False), ("compiled", True)):
        run(tmp_path / name, 2, compile=compiled, **more)
    for one, other in zip(lines_of(tmp_path / "eager"), lines_of(tmp_path / "compiled"), strict=True):
        assert one == pytest.approx(other, rel=1e-3)
    history = torch.randn(2, 3, 7, WIDTH)
    eager, compiled = (load(tmp_path / name, settings()).predict(history) for name in ("eager", "compiled"))
    assert (eager - compiled).abs().mean() < 1e-3 * eager.abs().mean()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_it_learns_and_reports_trivial_predictions(tmp_path, optimizer):
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
    history = lines_of(tmp_path / "job")
    assert history[-1]["validation_error"] < history[0]["validation_error"] / 2
    assert validation["error"] == pytest.approx(history[-1]["validation_error"], rel=1e-6)
    split, frames = data.split("validation"), np.arange(GIVEN - 8)  # 3 given and 2 predicted frames, 2 apart
    last = split.slots[:, frames + 4]
    copied = np.mean([np.square(split.slots[:, frames + 4 + 2 * n] - last).mean() for n in (1, 2)])
    assert validation["copy_last"] == pytest.approx(copied, rel=1e-5)
    assert validation["linear"] == pytest.approx(0, abs=1e-10)  # these slots move in straight lines
    seen = [(np.square(split.slots[:, frames + 4 + 2 * n] - last).mean(-1), split.visible[:, frames + 4 + 2 * n]) for n in (1, 2)]
    visible = sum((e * v).sum() for e, v in seen) / sum(v.sum() for _, v in seen)
    assert validation["copy_last_visible"] == pytest.approx(visible, rel=1e-5)


@pytest.mark.parametrize("draw", ["batch", "fixed"])
def test_validation_logs_the_error_of_masked_slots(tmp_path, monkeypatch, draw):
    """Under constant masks, against the literal predictor, slot by slot. It is not among the metrics of the state."""
    monkeypatch.setattr(validation_module, "MASKED_WINDOWS", 10)
    made, data = settings(masking=MaskingSettings(draw=draw)), StandIn()
    metrics = run(tmp_path / "job", 2, data=data, masking=made.masking)
    validation = Validation(made, data.split("validation"))
    window = torch.from_numpy(validation.windows.gather(validation.index[::2]))
    masking = made.masking if draw == "fixed" else MaskingSettings(draw="sample")
    masked = draw_masked(masking, 2, 10, 7, generator(0, "validation masks"))
    literal = LiteralPredictor(3, 2, 2, 2, 24, WIDTH)
    literal.load_state_dict(load(tmp_path / "job", made).state_dict())
    grid, _ = literal(window, [row.nonzero().flatten().tolist() for row in masked])
    errors = [(grid[b, :3, s] - window[b, :3, s]).square().mean() for b, s in masked.nonzero().tolist()]
    assert len(errors) == 20
    logged = lines_of(tmp_path / "job")[-1]["validation_masked"]
    assert logged == pytest.approx(float(torch.stack(errors).mean().detach()), rel=1e-4)
    assert metrics["validation"].keys() == validation.trivial.keys() | {"error", "error_visible"}
    run(tmp_path / "none", 1, masked=0)
    assert "validation_masked" not in lines_of(tmp_path / "none")[0]


def test_muon_in_float32_makes_the_steps_of_torchs_as_far_as_bfloat16_goes():
    """Wide, square and tall matrices over a few steps; the state is torch's, so that either continues from the other's."""
    torch.manual_seed(0)
    shapes = ((16, 48), (32, 32), (48, 16))
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(weight.detach().clone()) for weight in ours]
    start = [weight.detach().clone() for weight in ours]
    exact, rounded = muon(ours, "fp32", 0.1, decay=0.01), muon(theirs, "bf16", 0.1, decay=0.01)
    assert type(rounded) is torch.optim.Muon and type(exact) is not torch.optim.Muon
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        exact.step()
        rounded.step()
    for one, other, before in zip(ours, theirs, start, strict=True):
        difference = (one - other).norm() / (one - before).norm()
        assert 0 < difference < 0.02, "less than bfloat16's rounding, yet not the same arithmetic"
    rounded.load_state_dict(exact.state_dict())
    singular = torch.linalg.svdvals(orthogonal(torch.randn(32, 8), (3.4445, -4.7750, 2.0315), 5, 1e-7))
    assert singular.dtype == torch.float32 and singular.min() > 0.5 and singular.max() < 1.5


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_settings_choose_muons_precision(precision):
    made = WorldModelLearner(settings(optimizer="muon", muon_precision=precision), Method(), 2, 0, StandIn(), "cpu").optimizers[1]
    aloe = aloe_optimizers(nn.Linear(3, 3), AloeSettings(optimizer="muon", muon_precision=precision))[0]
    assert [type(one) is Float32Muon for one in (made, aloe)] == [precision == "fp32"] * 2


def test_muon_trains_the_layers_matrices_and_adamw_the_rest():
    learner = WorldModelLearner(settings(optimizer="muon"), Method(), 2, 0, StandIn(), "cpu")
    names = {id(p): n for n, p in learner.model.named_parameters()}
    adamw, muon = ({names[id(p)] for g in o.param_groups for p in g["params"]} for o in learner.optimizers)
    assert isinstance(learner.optimizers[1], torch.optim.Muon)
    assert muon == {f"transformer.layers.{i}.{n}.weight" for i in (0, 1) for n in ("0.out_proj", "1.1", "1.4")} | {
        f"transformer.layers.{i}.0.in_proj_weight" for i in (0, 1)
    }
    assert muon | adamw == set(names.values()) and not muon & adamw
    (only,) = optimizers_for(learner.model, settings())
    assert isinstance(only, torch.optim.AdamW) and only.param_groups[0]["weight_decay"] == 0.01


def test_an_epoch_uses_every_window_once_in_its_own_order():
    learner = WorldModelLearner(settings(windows=WindowSettings()), Method(), 2, 0, StandIn(), "cpu")
    assert learner.batches.windows.count == 12 * (GIVEN - 8) and learner.steps == learner.batches.windows.count // 16
    first, second = learner.batches.order(0).copy(), learner.batches.order(1).copy()
    assert sorted(first) == list(range(learner.batches.windows.count)) and not np.array_equal(first, second)
    reference = settings(windows=WindowSettings(all_starts=False))
    assert windows_of(reference, StandIn().split("train")).count == 12 * (GIVEN - 9)


def test_a_loss_that_is_not_a_number_stops_training(tmp_path):
    data = StandIn()
    data.split("train").slots[3, 10] = np.nan
    with pytest.raises(Diverged, match="train_loss became nan in step"):
        run(tmp_path / "job", 2, data=data, windows=WindowSettings())


def test_a_very_large_error_stops_training_before_it_is_infinite(tmp_path):
    with pytest.raises(Diverged, match=r"validation_error became .* over 1000 times what repeating the last frame gives"):
        run(tmp_path / "job", 2, learning_rate=10.0)


def test_impossible_settings_are_refused_before_any_work(tmp_path):
    with pytest.raises(SettingError, match="num_masked_slots must lie in 0..7, got 8"):
        run(tmp_path / "job", 1, masked=8)
    with pytest.raises(SettingError, match="batch_size 100000 is more than"):
        run(tmp_path / "job", 1, batch_size=100_000)
    with pytest.raises(SettingError, match="masking.draw=sample needs world_model.graph.scope=sample"):
        settings(masking=MaskingSettings(draw="sample"), graph=GraphSettings(scope="batch"))
    with pytest.raises(SettingError, match="do not fit"):
        run(tmp_path / "job", 1, frameskip=9)
    assert not (tmp_path / "job" / MODEL).exists()


def test_every_setting_has_a_help_text():
    for cls in (WorldModelSettings, WindowSettings):
        assert all(len(field.metadata["help"]) > 10 for field in dataclasses.fields(cls)), cls


def test_a_training_that_is_worse_than_copying_is_warned_of_after_its_first_third(tmp_path, capsys):
    """While it runs, in its log and in its progress, which `ctt status` shows."""
    metrics = run(tmp_path / "short", 2, epochs=6)["validation"]
    assert metrics["error_visible"] > metrics["copy_last_visible"]
    assert "warning" not in json.loads((tmp_path / "short" / "progress.json").read_text())
    assert capsys.readouterr().err == ""
    run(tmp_path / "long", 4, epochs=6)
    reported = json.loads((tmp_path / "long" / "progress.json").read_text())["warning"]
    assert reported.startswith("the world model predicts worse than repeating the last frame: its validation error is ")
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 1 and printed[0].startswith("warning: the world model predicts worse"), "once"
    third = lines_of(tmp_path / "long")[2]["validation_error_visible"] / metrics["copy_last_visible"]
    assert f"{third:.2f} times as large" in printed[0] or f"{third:.2f} times as large" in reported


@pytest.mark.parametrize(("error", "copying", "times"), [(1.0, 1.0, None), (0.5, 1.0, None), (1.98, 1.0, "1.98"), (1.0, 0.0, None)])
def test_what_is_worse_than_copying(error, copying, times):
    found = world_model.worse_than_copying(error, copying)
    assert found is None if times is None else f"is {times} times as large" in found
