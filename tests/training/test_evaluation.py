"""ALOE's evaluation after training: it reports progress, can be stopped and repeated, and the training slots are freed."""

from __future__ import annotations

import gc
import json

import pytest

import ctt.training.aloe_answers
import ctt.training.vqa
from ctt.core.build_context import BuildContext
from ctt.core.errors import Interrupted
from ctt.training.vqa import VqaLearner
from tests.training.small_aloe import bytes_of, lines_of, run
from tests.training.toy_questions import make

TRAINED = {"step": 11.0}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return make(tmp_path_factory.mktemp("toy"), train=40, validation=30)


def progress_of(folder):
    return json.loads((folder / "progress.json").read_text())


def test_it_reports_progress_and_stops_when_asked(tmp_path, toy, monkeypatch) -> None:
    monkeypatch.setattr(ctt.training.aloe_answers, "EVALUATION_ROWS", 16)
    run(tmp_path / "whole", toy)
    reported: list[tuple[float, float]] = []
    progress = BuildContext.progress

    def recorded(self, done, total, unit, **extra):
        progress(self, done, total, unit, **extra)
        if unit == "sequence":
            reported.append((done, total))

    monkeypatch.setattr(BuildContext, "progress", recorded)
    monkeypatch.setattr(BuildContext, "stopping", property(lambda context: len(reported) == 2))
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", toy)
    assert not (tmp_path / "cut" / "predictions.parquet").exists()
    (tmp_path / "cut" / "progress.json").write_text(json.dumps(progress_of(tmp_path / "cut") | {"rates": TRAINED, "peak_mib": 1e6}))
    monkeypatch.setattr(VqaLearner, "gradients", None)
    cost = run(tmp_path / "cut", toy)["cost"]
    assert cost["steps_per_second"] == TRAINED["step"] and cost["peak_memory_mib"] == 1e6, "those of its training"
    again = reported[2:]
    assert len(again) > 5 and again == sorted(again) and again[-1][0] == again[-1][1] == again[0][1]
    assert progress_of(tmp_path / "cut")["unit"] == "sequence"
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "whole")
    assert lines_of(tmp_path / "cut") == lines_of(tmp_path / "whole")


def test_validation_during_training_reports_that_the_process_is_alive(tmp_path, toy, monkeypatch) -> None:
    alive: list[int] = []
    monkeypatch.setattr(BuildContext, "alive", lambda context: alive.append(1))
    monkeypatch.setattr(ctt.training.aloe_answers, "EVALUATION_ROWS", 16)
    run(tmp_path / "a", toy)
    assert len(alive) > 10


def test_it_begins_after_the_training_slots_are_freed(tmp_path, toy, monkeypatch) -> None:
    held: list[int] = []
    evaluate = ctt.training.vqa.evaluate

    def counting(*args, **more):
        held.append(sum(type(one) is VqaLearner for one in gc.get_objects()))
        return evaluate(*args, **more)

    monkeypatch.setattr(ctt.training.vqa, "evaluate", counting)
    run(tmp_path / "a", toy)
    assert held == [0]
