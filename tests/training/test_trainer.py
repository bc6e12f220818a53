"""Segments, checkpoints and forks of a small learner with dropout: bytes, not numbers, are compared."""

from __future__ import annotations

import signal
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ctt.core import build_context as job_module
from ctt.core.build_context import BuildContext, read_metrics
from ctt.core.errors import Diverged, Interrupted, StoreError
from ctt.training import trainer
from ctt.training.learner import Learner
from ctt.training.seeds import derive, generator
from ctt.training.state import MODEL, OPTIMIZER, STATE, WEIGHTS
from ctt.training.trainer import train_segment

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


def run(folder: Path, end: int, *, begin: int = 0, start: Path | None = None, seed: int = 1, **toy) -> dict[str, float]:
    folder.mkdir(exist_ok=True)
    return train_segment(Toy(**toy), seed=seed, start=start, epoch_start=begin, epoch_end=end, job=BuildContext(folder))


def bytes_of(folder: Path) -> dict[str, bytes]:
    names = (MODEL, OPTIMIZER, STATE, WEIGHTS) if (folder / WEIGHTS).exists() else (MODEL, OPTIMIZER, STATE)
    return {name: (folder / name).read_bytes() for name in names}


def metrics_of(folder: Path) -> list[dict]:
    return [{k: v for k, v in line.items() if k != "t"} for line in read_metrics(folder / "metrics.jsonl")]


@pytest.fixture
def stop(monkeypatch):
    """Sets the flag a signal would set; reset afterwards."""
    job_module._stop.clear()
    yield job_module._stop.set
    job_module._stop.clear()


@pytest.mark.parametrize("average", [None, 0.9])
@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Muon])
def test_forked_at_any_epoch_is_uninterrupted(tmp_path, kind, average):
    run(tmp_path / "whole", 3, kind=kind, average=average)
    for fork in range(4):
        run(tmp_path / f"first{fork}", fork, kind=kind, average=average)
        rest = tmp_path / f"rest{fork}"
        run(rest, 3, begin=fork, start=tmp_path / f"first{fork}", kind=kind, average=average)
        assert bytes_of(tmp_path / f"rest{fork}") == bytes_of(tmp_path / "whole")
    assert metrics_of(tmp_path / "first1") + metrics_of(tmp_path / "rest1") == metrics_of(tmp_path / "whole")
    assert bytes_of(tmp_path / "first1") != bytes_of(tmp_path / "whole")


def test_the_average_is_the_one_computed_by_hand_and_what_readers_and_validation_get(tmp_path):
    """w̄ ← d·w̄ + (1 − d)·w with d = min(0.9, (1 + n) / (10 + n)), from the weights after every step, in float64."""
    seen = []

    class Watching(Toy):
        def follow(self, done):
            seen.append({name: value.detach().double().clone() for name, value in self.model.state_dict().items()})
            super().follow(done)

        def validate(self, epoch):
            return {"first": float(self.model.state_dict()["0.bias"][0])}

    (tmp_path / "a").mkdir()
    learner = Watching(average=0.9)
    last = train_segment(learner, seed=1, start=None, epoch_start=0, epoch_end=3, job=BuildContext(tmp_path / "a"))
    expected = dict(seen[0])
    for done, weights in enumerate(seen):
        decay = min(0.9, (1 + done) / (10 + done))
        expected = {name: decay * value + (1 - decay) * weights[name] for name, value in expected.items()}
    read, kept = load_file(tmp_path / "a" / MODEL), load_file(tmp_path / "a" / WEIGHTS)
    for name, value in expected.items():
        assert torch.allclose(read[name].double(), value, rtol=1e-5, atol=1e-7)
        assert torch.equal(kept[name].double(), seen[-1][name])
    assert len(seen) == 3 * STEPS and last["first"] == pytest.approx(float(expected["0.bias"][0]), rel=1e-5)


def test_another_seed_is_another_training(tmp_path):
    run(tmp_path / "a", 1)
    run(tmp_path / "b", 1, seed=2)
    assert bytes_of(tmp_path / "a")[MODEL] != bytes_of(tmp_path / "b")[MODEL]


@pytest.mark.parametrize("at", [(0, 0), (0, STEPS - 2), (0, STEPS - 1), (1, 1), (2, STEPS - 1)])
def test_stopped_by_a_signal_and_continued_is_uninterrupted(tmp_path, stop, at):
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
        job_module._stop.clear()
        run(tmp_path / "job", 3)
    assert bytes_of(tmp_path / "job") == bytes_of(tmp_path / "whole")
    assert metrics_of(tmp_path / "job") == metrics_of(tmp_path / "whole")
    assert not (tmp_path / "job" / "checkpoint").exists()


@pytest.mark.parametrize("at", [(0, 0), (0, 3), (1, 0), (2, 4)])
def test_killed_in_a_step_and_continued_is_uninterrupted(tmp_path, monkeypatch, at):
    """The process dies without warning: work continues from the last checkpoint, or from nothing."""
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    run(tmp_path / "whole", 3)

    def die(epoch, step):
        if (epoch, step) == at:
            raise KeyError("killed")

    with pytest.raises(KeyError):
        run(tmp_path / "job", 3, hook=die)
    (tmp_path / "job" / "checkpoint").mkdir(exist_ok=True)
    (tmp_path / "job" / "checkpoint" / "999999-000000000.tmp").mkdir()  # a checkpoint cut off in the middle
    seen = []
    run(tmp_path / "job", 3, hook=lambda epoch, step: seen.append((epoch, step)))
    assert seen[0] == at
    assert bytes_of(tmp_path / "job") == bytes_of(tmp_path / "whole")
    assert metrics_of(tmp_path / "job") == metrics_of(tmp_path / "whole")


def test_sigterm_reaches_our_handler_and_leaves_a_checkpoint(tmp_path, stop):
    before = signal.getsignal(signal.SIGTERM)
    job_module.stop_on_signals(signal.SIGTERM)
    ours = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(Interrupted):
            run(
                tmp_path / "job", 3, hook=lambda e, s: signal.raise_signal(signal.SIGTERM) if (e, s) == (1, 2) else None
            )
        assert [p.name for p in (tmp_path / "job" / "checkpoint").iterdir()] == ["000001-000000003"]
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_with_its_place(tmp_path, value):
    with pytest.raises(Diverged, match=r"train_loss became \w+ in step 2 of epoch 1"):
        run(tmp_path / "job", 3, hook=lambda e, s: torch.tensor(value) if (e, s) == (1, 2) else None)
    assert not (tmp_path / "job" / MODEL).exists()


def test_weights_broken_by_the_last_step_are_no_state(tmp_path):
    class Broken(Toy):
        def validate(self, epoch):
            return {"validation_error": float("nan") if epoch == 1 else 0.1}

    with pytest.raises(Diverged, match="validation_error became nan after epoch 1"):
        train_segment(Broken(), seed=1, start=None, epoch_start=0, epoch_end=2, job=BuildContext(tmp_path))
    assert not (tmp_path / MODEL).exists()


def test_metrics_are_means_over_the_epoch_and_validation_runs_in_eval_mode(tmp_path):
    result = run(tmp_path / "job", 2, hook=lambda e, s: torch.tensor(float(10 * e + s)))
    assert metrics_of(tmp_path / "job") == [
        {"step": e + 1, "train_loss": 10 * e + (STEPS - 1) / 2, "training": 0.0, "epoch": float(e)} for e in (0, 1)
    ]
    assert result["train_loss"] == 12


def test_it_prints_nothing_and_leaves_the_process_as_it_was(tmp_path, capfd):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        toy = Toy()
        torch.set_rng_state(state)
        train_segment(toy, seed=1, start=None, epoch_start=0, epoch_end=1, job=BuildContext(tmp_path))
    assert capfd.readouterr() == ("", "") and not caught
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [MODEL, OPTIMIZER, STATE, "metrics.jsonl", "progress.json"]
    )


def test_a_start_that_is_another_state_is_refused(tmp_path):
    run(tmp_path / "one", 1)
    with pytest.raises(StoreError, match="state after 1 epochs, not after 2"):
        run(tmp_path / "job", 3, begin=2, start=tmp_path / "one")
    (tmp_path / "one" / OPTIMIZER).write_bytes(b"damaged")
    with pytest.raises(StoreError, match=OPTIMIZER):
        run(tmp_path / "job", 3, begin=1, start=tmp_path / "one")
    with pytest.raises(StoreError, match=STATE):
        run(tmp_path / "job", 3, begin=1, start=tmp_path / "nothing")


def test_seeds_depend_on_everything_they_are_derived_from():
    made = {derive(s, p, e, n) for s in range(4) for p in ("a", "b") for e in range(4) for n in range(4)}
    assert len(made) == 128 and all(0 <= seed < 2**63 for seed in made)
    assert derive(1, "a", 11, 1) != derive(1, "a", 1, 11) and derive(0, "x") == derive(0, "x", 0, 0)
