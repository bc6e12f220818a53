"""Patience: when training ends early, what the files record of it, and that interruptions do not change them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ctt.core.build_context import BuildContext, read_metrics
from ctt.core.errors import Interrupted
from ctt.data.dataset import Dataset
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.tracking.summary import final_points, note
from ctt.tracking.tail import Tail
from ctt.tracking.tracked_runs import TrackedRun, TrackedStage
from ctt.training.vqa import VqaLearner
from tests.training.small_aloe import bytes_of, lines_of, run
from tests.training.toy_questions import make

AVERAGES = [1.0, 3.0, 2.0, 2.5, 2.9, 9.0]
PATIENT = dict(epochs=6, schedule_epochs=6, learning_rate=1e-3, patience=2)


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return make(tmp_path_factory.mktemp("toy"), train=200, validation=60)


def page_of(folder: Path) -> str:
    """The description on MLflow's page of a run whose ALOE has written these files."""
    stage = TrackedStage("vqa", "key", finished=folder, working=folder, failure=None)
    tail = Tail(stage)
    tail.poll()
    return note(TrackedRun("demo", "ctt-1", "ctt", 1, {}, {}, (stage,)), [tail], final_points([tail]))


@pytest.mark.slow
def test_training_stops_when_patience_runs_out(tmp_path, toy, monkeypatch) -> None:
    """At the epoch that the curve records; a second call only evaluates again."""
    monkeypatch.setattr(VqaLearner, "validate", lambda self, epoch: {"average": AVERAGES[epoch]})
    stopped = run(tmp_path / "a", toy, **PATIENT)
    lines = read_metrics(tmp_path / "a" / "metrics.jsonl")
    assert [line["average"] for line in lines] == [1.0, 3.0, 2.0, 2.5]
    assert stopped["curve"]["stopped"] and stopped["curve"]["epochs"] == 4 and stopped["curve"]["planned_epochs"] == 6
    assert stopped["curve"]["best"]["epoch"] == 2 and stopped["curve"]["last"]["epoch"] == 4
    page = page_of(tmp_path / "a")
    assert "| | epoch 4, the last | epoch 2, the best by validation |" in page and "| average | 2.5 | 3.0 |" in page
    assert "On 60 of 60 videos:" in page and "ALOE stopped after 4 of 6 epochs" in page
    before = bytes_of(tmp_path / "a")
    (tmp_path / "a" / "predictions.parquet").unlink()
    monkeypatch.setattr(VqaLearner, "gradients", None)
    assert run(tmp_path / "a", toy, **PATIENT)["curve"] == stopped["curve"]
    assert bytes_of(tmp_path / "a") == before


def test_patience_that_cannot_run_out_has_no_effect() -> None:
    for epochs, every, patience, may in (
        (4, 1, 2, True),
        (4, 1, 3, False),
        (8, 2, 2, True),
        (8, 2, 3, False),
        (3, 2, 1, False),
    ):
        assert AloeSettings(epochs=epochs, eval_every=every, patience=patience).may_stop is may
    assert not AloeSettings().may_stop


@pytest.mark.slow
def test_early_stopping_interrupted_and_resumed_gives_the_same_bytes(tmp_path, toy, monkeypatch) -> None:
    """Stopped within an epoch, at the end of one and in the last one, and killed after the last metric line, before the
    state is written."""
    monkeypatch.setattr(VqaLearner, "validate", lambda self, epoch: {"average": AVERAGES[epoch]})
    changes = PATIENT | dict(optimizer="muon", dropout=0.1, average=0.9)
    whole = run(tmp_path / "whole", toy, **changes)
    calls, gradients, should_stop = [], VqaLearner.gradients, VqaLearner.should_stop

    def counted(self, epoch, step):
        calls.append((epoch, step))
        return gradients(self, epoch, step)

    def killed(self, folder):
        if should_stop(self, folder):
            raise Killed
        return False

    steps = 200 * 5 // 32
    monkeypatch.setattr(VqaLearner, "gradients", counted)
    monkeypatch.setattr(BuildContext, "stopping", property(lambda context: len(calls) in (7, 2 * steps, 3 * steps + 5)))
    for done in (7, 2 * steps, 3 * steps + 5):
        with pytest.raises(Interrupted):
            run(tmp_path / "cut", toy, **changes)
        assert len(calls) == done
    monkeypatch.setattr(BuildContext, "stopping", False)
    monkeypatch.setattr(VqaLearner, "should_stop", killed)
    with pytest.raises(Killed):
        run(tmp_path / "cut", toy, **changes)
    assert len(lines_of(tmp_path / "cut")) == 4
    monkeypatch.setattr(VqaLearner, "should_stop", should_stop)
    cut = run(tmp_path / "cut", toy, **changes)
    assert calls[: 4 * steps] == [(epoch, step) for epoch in range(4) for step in range(steps)]
    assert calls[4 * steps :] == [(3, step) for step in range(5, steps)]  # repeated after the kill
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "whole")
    assert (tmp_path / "cut" / "state.json").read_bytes() == (tmp_path / "whole" / "state.json").read_bytes()
    assert lines_of(tmp_path / "cut") == lines_of(tmp_path / "whole") and cut["curve"] == whole["curve"]
    assert cut["curve"]["stopped"] and cut["curve"]["epochs"] == 4


def test_without_validation_questions_there_is_no_best_epoch(tmp_path) -> None:
    """The final evaluation is not affected."""
    dataset, rollouts = make(tmp_path / "toy", train=24, validation=6)
    path = dataset.split("validation").questions_file
    first, *others = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps([first | {"questions": []}, *others]), encoding="utf-8")
    metrics = run(tmp_path / "a", (Dataset.open(dataset.folder), rollouts), eval_videos=1, epochs=3, patience=1)
    none = {"last": None, "best": None, "videos": 1, "of": 6}
    assert metrics["curve"] == {**none, "epochs": 3, "planned_epochs": 3, "stopped": False}
    assert metrics["questions"]["descriptive"] == 15 and metrics["average"] is not None
    page = page_of(tmp_path / "a")
    assert "| average |" in page and "On 1 of 6 videos: no question, so no best epoch is known" in page
