"""ALOE's evaluation as work of its own: it tells how far it is, can be stopped and repeated, and holds no training's slots."""

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


def told_of(folder):
    return json.loads((folder / "progress.json").read_text())


def test_it_tells_how_far_it_is_and_stops_when_asked(tmp_path, toy, monkeypatch) -> None:
    monkeypatch.setattr(ctt.training.aloe_answers, "EVALUATION_ROWS", 16)
    run(tmp_path / "whole", toy)
    told: list[tuple[float, float]] = []
    progress = BuildContext.progress

    def noted(self, done, total, unit, **extra):
        progress(self, done, total, unit, **extra)
        if unit == "sequence":
            told.append((done, total))

    monkeypatch.setattr(BuildContext, "progress", noted)
    monkeypatch.setattr(BuildContext, "stopping", property(lambda job: len(told) == 2))
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", toy)
    assert not (tmp_path / "cut" / "predictions.parquet").exists()
    (tmp_path / "cut" / "progress.json").write_text(
        json.dumps(told_of(tmp_path / "cut") | {"rates": TRAINED, "peak_mib": 1e6})
    )
    monkeypatch.setattr(VqaLearner, "gradients", None)
    cost = run(tmp_path / "cut", toy)["cost"]
    assert cost["steps_per_second"] == TRAINED["step"] and cost["peak_memory_mib"] == 1e6, "as its training had it"
    again = told[2:]
    assert len(again) > 5 and again == sorted(again) and again[-1][0] == again[-1][1] == again[0][1]
    assert told_of(tmp_path / "cut")["unit"] == "sequence"
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "whole")
    assert lines_of(tmp_path / "cut") == lines_of(tmp_path / "whole")


def test_validations_during_training_keep_the_job_from_looking_hung(tmp_path, toy, monkeypatch) -> None:
    alive: list[int] = []
    monkeypatch.setattr(BuildContext, "alive", lambda job: alive.append(1))
    monkeypatch.setattr(ctt.training.aloe_answers, "EVALUATION_ROWS", 16)
    run(tmp_path / "a", toy)
    assert len(alive) > 10


def test_it_begins_when_the_training_has_let_go_of_its_slots(tmp_path, toy, monkeypatch) -> None:
    held: list[int] = []
    evaluate = ctt.training.vqa.evaluate

    def counting(*args, **more):
        held.append(sum(type(one) is VqaLearner for one in gc.get_objects()))
        return evaluate(*args, **more)

    monkeypatch.setattr(ctt.training.vqa, "evaluate", counting)
    run(tmp_path / "a", toy)
    assert held == [0]
