"""Segments, checkpoints and branches of a small learner with dropout, compared byte by byte."""

from __future__ import annotations

import signal
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ctt.core import build_context
from ctt.core.build_context import STATE, BuildContext
from ctt.core.errors import Diverged, Interrupted, StoreError
from ctt.training import trainer
from ctt.training.learner import Learner
from ctt.training.seeds import derive, generator
from ctt.training.state import MODEL, OPTIMIZER, WEIGHTS
from ctt.training.trainer import Segment, train_segment
from tests.training.small_world_model import bytes_of, lines_of

STEPS = 5


class Toy(Learner):
    """Fits x with dropout from the global generator; `hook(epoch, step)` runs in every step."""

    def __init__(self, hook=lambda epoch, step: None, kind=torch.optim.AdamW, average=None) -> None:
        self.average = average
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.3), nn.Linear(6, 4))
        self.optimizers = [kind([p for p in self.model.parameters() if p.ndim == 2], lr=0.01)]
        self.optimizers += [torch.optim.AdamW([p for p in self.model.parameters() if p.ndim == 1], lr=0.01)]
        self.steps, self.hook = STEPS, hook

    def gradients(self, epoch, step):
        x = torch.randn(8, 4, generator=generator(1, "x", epoch, step))
        loss = (self.model(x) - x).square().mean()
        loss.backward()
        value = self.hook(epoch, step)
        return {"train_loss": loss.detach() if value is None else value}

    def validate(self, epoch):
        return {"training": float(self.model.training), "epoch": float(epoch)}


def run(folder: Path, segment: Segment | int, *, seed: int = 1, **toy) -> dict[str, float]:
    """Trains a segment, or from the initial weights to an epoch, into `folder`."""
    folder.mkdir(exist_ok=True)
    segment = Segment(segment) if isinstance(segment, int) else segment
    return train_segment(Toy(**toy), segment, seed=seed, context=BuildContext(folder))


@pytest.fixture
def stop(monkeypatch):
    """A function that sets the flag a signal sets; it is reset afterwards."""
    build_context._stop.clear()
    yield build_context._stop.set
    build_context._stop.clear()


@pytest.mark.parametrize("average", [None, 0.9])
@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Muon])
def test_branching_at_any_epoch_gives_the_bytes_of_uninterrupted_training(tmp_path, kind, average):
    run(tmp_path / "whole", 3, kind=kind, average=average)
    for epoch in range(4):
        prefix, branch = tmp_path / f"prefix{epoch}", tmp_path / f"branch{epoch}"
        run(prefix, epoch, kind=kind, average=average)
        run(branch, Segment(3, epoch, prefix), kind=kind, average=average)
        assert bytes_of(branch) == bytes_of(tmp_path / "whole")
    assert lines_of(tmp_path / "prefix1", tmp_path / "branch1") == lines_of(tmp_path / "whole")
    assert bytes_of(tmp_path / "prefix1") != bytes_of(tmp_path / "whole")


def test_the_model_file_and_validation_have_the_averaged_weights(tmp_path):
    """w̄ ← d·w̄ + (1 − d)·w with d = min(0.9, (1 + n) / (10 + n)), computed in float64 from the weights after every step."""
    seen = []

    class Watching(Toy):
        def update_average(self, done):
            seen.append({name: value.detach().double().clone() for name, value in self.model.state_dict().items()})
            super().update_average(done)

        def validate(self, epoch):
            return {"first": float(self.model.state_dict()["0.bias"][0])}

    (tmp_path / "a").mkdir()
    learner = Watching(average=0.9)
    last = train_segment(learner, Segment(3), seed=1, context=BuildContext(tmp_path / "a"))
    expected = dict(seen[0])
    for done, weights in enumerate(seen):
        decay = min(0.9, (1 + done) / (10 + done))
        expected = {name: decay * value + (1 - decay) * weights[name] for name, value in expected.items()}
    averaged, weights = load_file(tmp_path / "a" / MODEL), load_file(tmp_path / "a" / WEIGHTS)
    for name, value in expected.items():
        assert torch.allclose(averaged[name].double(), value, rtol=1e-5, atol=1e-7)
        assert torch.equal(weights[name].double(), seen[-1][name])
    assert len(seen) == 3 * STEPS and last["first"] == pytest.approx(float(expected["0.bias"][0]), rel=1e-5)


def test_another_seed_gives_another_training(tmp_path):
    run(tmp_path / "a", 1)
    run(tmp_path / "b", 1, seed=2)
    assert bytes_of(tmp_path / "a")[MODEL] != bytes_of(tmp_path / "b")[MODEL]


@pytest.mark.parametrize("at", [(0, 0), (0, STEPS - 2), (0, STEPS - 1), (1, 1), (2, STEPS - 1)])
def test_stopped_and_resumed_training_gives_the_bytes_of_uninterrupted_training(tmp_path, stop, at):
    run(tmp_path / "whole", 3)

    def hook(epoch, step):
        if (epoch, step) == at:
            stop()

    if at == (2, STEPS - 1):  # nothing is left to do after the last step
        run(tmp_path / "job", 3, hook=hook)
    else:
        with pytest.raises(Interrupted):
            run(tmp_path / "job", 3, hook=hook)
        assert not (tmp_path / "job" / MODEL).exists()
        build_context._stop.clear()
        run(tmp_path / "job", 3)
    assert bytes_of(tmp_path / "job") == bytes_of(tmp_path / "whole")
    assert lines_of(tmp_path / "job") == lines_of(tmp_path / "whole")
    assert not (tmp_path / "job" / "checkpoint").exists()


@pytest.mark.parametrize("at", [(0, 0), (0, 3), (1, 0), (2, 4)])
def test_killed_and_resumed_training_gives_the_bytes_of_uninterrupted_training(tmp_path, monkeypatch, at):
    """Training continues from the last checkpoint, or from the beginning if there is none."""
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    run(tmp_path / "whole", 3)

    def die(epoch, step):
        if (epoch, step) == at:
            raise KeyError("killed")

    with pytest.raises(KeyError):
        run(tmp_path / "job", 3, hook=die)
    (tmp_path / "job" / "checkpoint").mkdir(exist_ok=True)
    (tmp_path / "job" / "checkpoint" / "999999-000000000.tmp").mkdir()  # an incomplete checkpoint
    seen = []
    run(tmp_path / "job", 3, hook=lambda epoch, step: seen.append((epoch, step)))
    assert seen[0] == at
    assert bytes_of(tmp_path / "job") == bytes_of(tmp_path / "whole")
    assert lines_of(tmp_path / "job") == lines_of(tmp_path / "whole")


def test_sigterm_reaches_our_handler_and_leaves_a_checkpoint(tmp_path, stop):
    before = signal.getsignal(signal.SIGTERM)
    build_context.stop_on_signals(signal.SIGTERM)
    ours = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(Interrupted):
            run(tmp_path / "job", 3, hook=lambda e, s: signal.raise_signal(signal.SIGTERM) if (e, s) == (1, 2) else None)
        assert [p.name for p in (tmp_path / "job" / "checkpoint").iterdir()] == ["000001-000000003"]
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_training_and_names_the_step(tmp_path, value):
    with pytest.raises(Diverged, match=r"train_loss became \w+ in step 2 of epoch 1"):
        run(tmp_path / "job", 3, hook=lambda e, s: torch.tensor(value) if (e, s) == (1, 2) else None)
    assert not (tmp_path / "job" / MODEL).exists()


def test_a_last_step_that_breaks_the_weights_leaves_no_state(tmp_path):
    class Broken(Toy):
        def validate(self, epoch):
            return {"validation_error": float("nan") if epoch == 1 else 0.1}

    with pytest.raises(Diverged, match="validation_error became nan after epoch 1"):
        train_segment(Broken(), Segment(2), seed=1, context=BuildContext(tmp_path))
    assert not (tmp_path / MODEL).exists()


def test_metrics_are_means_over_the_epoch_and_validation_runs_in_eval_mode(tmp_path):
    result = run(tmp_path / "job", 2, hook=lambda e, s: torch.tensor(float(10 * e + s)))
    expected = [
        {"step": e + 1, "train_loss": 10 * e + (STEPS - 1) / 2, "training": 0.0, "epoch": float(e), "learning_rate": 0.01}
        for e in (0, 1)
    ]
    lines = lines_of(tmp_path / "job")
    assert [{name: line[name] for name in expected[0]} for line in lines] == expected
    assert result["train_loss"] == 12


def test_it_prints_nothing_and_restores_random_state_and_threads(tmp_path, capfd):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        toy = Toy()
        torch.set_rng_state(state)
        train_segment(toy, Segment(1), seed=1, context=BuildContext(tmp_path))
    assert capfd.readouterr() == ("", "") and not caught
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([MODEL, OPTIMIZER, STATE, "metrics.jsonl", "progress.json"])


def test_a_start_of_another_epoch_or_a_damaged_one_is_refused(tmp_path):
    run(tmp_path / "one", 1)
    with pytest.raises(ValueError, match="0 <= first <= end, got 2 and 1"):
        Segment(1, 2)
    with pytest.raises(StoreError, match="state after 1 epochs, not after 2"):
        run(tmp_path / "job", Segment(3, 2, tmp_path / "one"))
    (tmp_path / "one" / OPTIMIZER).write_bytes(b"damaged")
    with pytest.raises(StoreError, match=OPTIMIZER):
        run(tmp_path / "job", Segment(3, 1, tmp_path / "one"))
    with pytest.raises(StoreError, match=STATE):
        run(tmp_path / "job", Segment(3, 1, tmp_path / "missing"))


def test_seeds_depend_on_everything_they_are_derived_from():
    made = {derive(s, p, e, n) for s in range(4) for p in ("a", "b") for e in range(4) for n in range(4)}
    assert len(made) == 128 and all(0 <= seed < 2**63 for seed in made)
    assert derive(1, "a", 11, 1) != derive(1, "a", 1, 11) and derive(0, "x") == derive(0, "x", 0, 0)


def test_each_epoch_logs_its_mean_gradient_norm_and_last_learning_rate(tmp_path):
    norms = []

    class Watching(Toy):
        def gradients(self, epoch, step):
            found = super().gradients(epoch, step)
            norms.append(sum(p.grad.double().square().sum() for p in self.model.parameters()) ** 0.5)
            return found

        def schedule(self, epoch, step):
            for optimizer in self.optimizers:
                optimizer.param_groups[0]["lr"] = 0.01 / (1 + epoch * STEPS + step)

    train_segment(Watching(kind=torch.optim.Muon), Segment(2), seed=1, context=BuildContext(tmp_path))
    lines = lines_of(tmp_path)
    for epoch, line in enumerate(lines):
        assert line["gradient_norm"] == pytest.approx(float(sum(norms[epoch * STEPS :][:STEPS]) / STEPS), rel=1e-5)
        assert line["learning_rate"] == line["muon_learning_rate"] == 0.01 / (epoch * STEPS + STEPS)
