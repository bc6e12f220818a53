"""ALOE's training: what it learns, that interruptions leave no trace, and what its files say."""

from __future__ import annotations

import json
import math
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from ctt.data.accuracy import metrics_of
from ctt.data.dataset import Dataset
from ctt.data.vocab import ANSWERS
from ctt.errors import Interrupted
from ctt.job import Job, read_metrics
from ctt.models.aloe_settings import AloeSettings
from ctt.training.answers import evaluate, write_predictions
from ctt.training.vqa import VqaLearner, rate, train
from tests.training.toy_questions import make

SMALL = dict(
    layers=2,
    heads=4,
    width=32,
    ffn=64,
    dropout=0.0,
    equal_layers=False,
    tokens="trajectory",
    frames=8,
    predicted_frames=2,
    batch_size=32,
    buckets=2,
    learning_rate=3e-3,
    epochs=2,
)
FILES = ("model.safetensors", "optimizer.safetensors", "predictions.parquet")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return make(tmp_path_factory.mktemp("toy"), train=200, validation=60)


def run(folder, toy, seed=0, rollouts=True, **changes):
    """Trains into `folder`; returns the metrics."""
    dataset, predicted = toy
    folder.mkdir(exist_ok=True)
    return train(AloeSettings(**(SMALL | changes)), seed, dataset, predicted if rollouts else None, job=Job(folder))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, toy):
    """A finished training: its folder and metrics."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, run(folder, toy)


def bytes_of(folder) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_it_learns_what_the_slots_and_rollouts_show(tmp_path, toy) -> None:
    """And without rollouts predictive questions stay at their blind level while the others are learnt."""
    with_rollouts = run(tmp_path / "a", toy, optimizer="muon", epochs=8)
    assert (
        with_rollouts["per_question"]["descriptive"] > 90 > with_rollouts["blind"]["per_question"]["descriptive"] + 15
    )
    assert with_rollouts["per_option"]["explanatory"] > 85
    assert with_rollouts["per_option"]["predictive"] > 85
    without = run(tmp_path / "b", toy, rollouts=False, optimizer="muon", epochs=8)
    assert without["per_question"]["descriptive"] > 90
    assert without["per_option"]["predictive"] < without["blind"]["per_option"]["predictive"] + 8


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_interrupted_and_continued_leaves_the_same_bytes(tmp_path, toy, monkeypatch, optimizer) -> None:
    changes = dict(optimizer=optimizer, dropout=0.1, dropout_kind="cheap")
    run(tmp_path / "whole", toy, **changes)
    calls, gradients = [], VqaLearner.gradients

    def counted(self, epoch, step):
        calls.append((epoch, step))
        return gradients(self, epoch, step)

    monkeypatch.setattr(VqaLearner, "gradients", counted)
    monkeypatch.setattr(Job, "stopping", property(lambda job: len(calls) == 3 or len(calls) == 41))
    for _ in range(2):
        with pytest.raises(Interrupted):
            run(tmp_path / "cut", toy, **changes)
    monkeypatch.setattr(Job, "stopping", False)
    run(tmp_path / "cut", toy, **changes)
    assert len(calls) == len(set(calls)) == 2 * (200 * 5 // 32)
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "whole")
    lines = [
        [{k: v for k, v in line.items() if k != "t"} for line in read_metrics(tmp_path / f / "metrics.jsonl")]
        for f in ("cut", "whole")
    ]
    assert lines[0] == lines[1] and len(lines[0]) == 2


def test_a_finished_training_is_only_evaluated_again(tmp_path, toy, monkeypatch) -> None:
    run(tmp_path / "a", toy)
    before = bytes_of(tmp_path / "a")
    (tmp_path / "a" / "predictions.parquet").unlink()
    monkeypatch.setattr(VqaLearner, "gradients", None)
    run(tmp_path / "a", toy)
    assert bytes_of(tmp_path / "a") == before


def test_seeds(tmp_path, toy) -> None:
    """`aloe_seed` replaces the run's seed; null means derived from it."""
    for name, seed, aloe_seed in (("a", 1, None), ("b", 2, None), ("c", 2, 1), ("d", 1, None)):
        run(tmp_path / name, toy, seed=seed, aloe_seed=aloe_seed, epochs=1)
    a, b, c, d = (bytes_of(tmp_path / name) for name in "abcd")
    assert a == c == d
    assert a["model.safetensors"] != b["model.safetensors"]


def test_files_agree_with_each_other(tmp_path, toy, trained) -> None:
    dataset, rollouts = toy
    folder, _ = trained
    table = pd.read_parquet(folder / "predictions.parquet")
    questions = dataset.split("validation").questions
    assert len(table) == len(questions.video)
    assert (table["truth"].to_numpy() == questions.answer).all()
    assert (table["correct"] == (table["prediction"] == table["truth"])).all()
    options = table["category"] != "descriptive"
    assert ((table["logit"] > 0) == (table["prediction"] == 1))[options].all()
    assert set(table["category"]) == {"descriptive", "explanatory", "predictive"}
    written = json.loads((folder / "metrics.json").read_text())
    recounted = metrics_of(table)
    assert {name: written[name] for name in recounted} == recounted
    lines = read_metrics(folder / "metrics.jsonl")
    assert (
        lines[-1]["average"] == recounted["average"]
        and lines[-1]["explanatory"] == recounted["per_question"]["explanatory"]
    )
    best = max(lines, key=lambda line: line["average"])
    curve = written["curve"]
    assert curve["best"]["epoch"] == best["step"] and curve["best"]["descriptive"] == best["descriptive"]
    assert curve["last"]["epoch"] == 2 and curve["last"]["average"] == recounted["average"]
    assert (curve["videos"], curve["of"], curve["stopped"], curve["epochs"]) == (60, 60, False, 2)
    assert written["cost"]["steps_per_second"] > 0 and written["cost"]["peak_memory_mib"] > 10
    again = evaluate(AloeSettings(**SMALL), folder, dataset, rollouts, "validation", job=Job(tmp_path))
    pd.testing.assert_frame_equal(again, table)


def test_best_and_last_epoch_are_measured_on_the_same_videos(tmp_path, toy) -> None:
    """On fewer videos in training, and what counts on all of them afterwards."""
    a = run(tmp_path / "a", toy, epochs=4, eval_every=2, eval_videos=10)
    b = run(tmp_path / "b", toy, epochs=4)
    lines = read_metrics(tmp_path / "a" / "metrics.jsonl")
    assert ["average" in line for line in lines] == [False, True, False, True]
    table = pd.read_parquet(tmp_path / "a" / "predictions.parquet")
    assert lines[3]["average"] == metrics_of(table[table["video"] < 10])["average"] != a["average"]
    assert (
        a["curve"]["last"]["average"] == lines[3]["average"] and a["curve"]["videos"] == 10 and a["curve"]["of"] == 60
    )
    assert a["average"] == b["average"]
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_training_stops_when_patience_runs_out(tmp_path, toy, monkeypatch) -> None:
    """At the epoch the curve says; called again, it only answers again."""
    changes = dict(epochs=6, schedule_epochs=6, learning_rate=1e-3)
    monkeypatch.setattr(VqaLearner, "validate", lambda self, epoch: {"average": [1.0, 3.0, 2.0, 2.5, 2.9, 9.0][epoch]})
    stopped = run(tmp_path / "a", toy, patience=2, **changes)
    lines = read_metrics(tmp_path / "a" / "metrics.jsonl")
    assert [line["average"] for line in lines] == [1.0, 3.0, 2.0, 2.5]
    assert stopped["curve"]["stopped"] and stopped["curve"]["epochs"] == 4 and stopped["curve"]["planned_epochs"] == 6
    assert stopped["curve"]["best"]["epoch"] == 2 and stopped["curve"]["last"]["epoch"] == 4
    before = bytes_of(tmp_path / "a")
    (tmp_path / "a" / "predictions.parquet").unlink()
    monkeypatch.setattr(VqaLearner, "gradients", None)
    assert run(tmp_path / "a", toy, patience=2, **changes)["curve"] == stopped["curve"]
    assert bytes_of(tmp_path / "a") == before


def test_patience_that_cannot_run_out_says_nothing() -> None:
    for epochs, every, patience, may in (
        (4, 1, 2, True),
        (4, 1, 3, False),
        (8, 2, 2, True),
        (8, 2, 3, False),
        (3, 2, 1, False),
    ):
        assert AloeSettings(epochs=epochs, eval_every=every, patience=patience).may_stop is may
    assert not AloeSettings().may_stop


def test_accuracies_recounted_from_the_files_alone(toy, trained) -> None:
    """With nothing of ctt: the official question file beside the prediction file's logits."""
    dataset, _ = toy
    folder, metrics = trained
    table = pd.read_parquet(folder / "predictions.parquet").to_dict("records")
    names = "0 1 2 3 4 5 blue brown cube cyan cylinder gray green metal no purple red rubber sphere yellow yes"
    answers = dict(enumerate(names.split(" "), 1))
    given = {}
    for row in table:
        logits = list(row["logits"])
        assert len(logits) == (22 if row["category"] == "descriptive" else 1)
        best = max(range(len(logits)), key=lambda k: logits[k])
        said = answers.get(best) if row["choice_id"] == -1 else "correct" if logits[0] > 0 else "wrong"
        given[row["scene"], row["question_id"], row["choice_id"]] = said
    asked, right, options, chosen = {}, {}, {}, {}
    for scene in json.loads((dataset.folder / "questions_validation.json").read_text()):
        for question in scene["questions"]:
            kind, at = question["question_type"], (scene["scene_index"], question["question_id"])
            parts = question.get("choices", [{"choice_id": -1, **question}])
            fine = [given.pop((*at, part["choice_id"])) == part["answer"] for part in parts]
            asked[kind], right[kind] = asked.get(kind, 0) + 1, right.get(kind, 0) + all(fine)
            options[kind], chosen[kind] = options.get(kind, 0) + len(fine), chosen.get(kind, 0) + sum(fine)
    assert not given
    for kind in asked:
        assert metrics["per_question"][kind] == pytest.approx(100 * right[kind] / asked[kind], abs=1e-9)
        assert metrics["per_option"][kind] == pytest.approx(100 * chosen[kind] / options[kind], abs=1e-9)
    assert metrics["average"] == pytest.approx(100 * sum(right.values()) / sum(asked.values()), abs=1e-9)
    several = [kind for kind in asked if kind != "descriptive"]
    pooled = 100 * sum(right[k] for k in several) / sum(asked[k] for k in several)
    assert metrics["multiple_choice"] == pytest.approx(pooled, abs=1e-9)


def test_all_categories_can_be_given_predicted_frames(tmp_path, toy) -> None:
    """With rollout_frames=all the predicted frames reach a descriptive question's answer; with `predictive` they cannot."""
    dataset, rollouts = toy
    others = {split: frames[:, :, ::-1].copy() for split, frames in rollouts.items()}
    for which, reached in (("all", True), ("predictive", False)):
        folder = tmp_path / which
        run(folder, toy, epochs=1, rollout_frames=which)
        settings = AloeSettings(**(SMALL | {"epochs": 1, "rollout_frames": which}))
        a, b = (evaluate(settings, folder, dataset, r, "validation", job=Job(tmp_path)) for r in (rollouts, others))
        changed = (a["logit"] != b["logit"]).groupby(a["category"]).mean()
        assert changed["predictive"] > 0.9
        for category in ("descriptive", "explanatory"):
            assert (changed[category] > 0.9) if reached else (changed[category] == 0)


def test_a_test_split_gets_an_evalai_file(tmp_path, toy) -> None:
    dataset, rollouts = toy
    folder = tmp_path / "data"
    shutil.copytree(dataset.folder, folder)
    scenes = json.loads((folder / "questions_validation.json").read_text())[:3]
    for number, scene in enumerate(scenes):
        scene["scene_index"] = 15_000 + number
        for question in scene["questions"]:
            question.pop("answer", None), question.pop("program")
            for choice in question.get("choices", []):
                del choice["answer"], choice["program"]
    (folder / "questions_test.json").write_text(json.dumps(scenes))
    np.save(folder / "slots_test.npy", np.load(folder / "slots_validation.npy")[:3])
    manifest = json.loads((folder / "dataset.json").read_text())
    manifest["videos"]["test"], manifest["first_scene"]["test"] = 3, 15_000
    (folder / "dataset.json").write_text(json.dumps(manifest))
    with_test = Dataset.open(folder), rollouts | {"test": rollouts["validation"][:3]}
    run(tmp_path / "a", with_test, epochs=1)
    sent = json.loads((tmp_path / "a" / "evalai.json").read_text())
    table = pd.read_parquet(tmp_path / "a" / "predictions.parquet").set_index(["scene", "question_id", "choice_id"])
    assert [scene["scene_index"] for scene in sent] == [15_000, 15_001, 15_002]
    count = 0
    for answered, asked in zip(sent, scenes, strict=True):
        assert set(answered) == {"scene_index", "questions"}
        for said, question in zip(answered["questions"], asked["questions"], strict=True):
            at = (answered["scene_index"] - 5_000, question["question_id"])  # the same video among the validation ones
            assert said["question_id"] == question["question_id"]
            if "choices" not in question:
                assert set(said) == {"question_id", "answer"}
                assert said["answer"] == ANSWERS[table.loc[(*at, -1), "prediction"] - 1]
                count += 1
                continue
            assert set(said) == {"question_id", "choices"} and len(said["choices"]) == len(question["choices"])
            for choice, option in zip(said["choices"], question["choices"], strict=True):
                verdict = ["wrong", "correct"][table.loc[(*at, option["choice_id"]), "prediction"]]
                assert choice == {"choice_id": option["choice_id"], "answer": verdict}
                count += 1
    assert count == (table.reset_index()["video"] < 3).sum()


def test_random_first_frames_in_evaluation_depend_on_the_seed_alone(tmp_path, toy) -> None:
    dataset, rollouts = toy
    run(tmp_path / "a", toy, epochs=1)
    logits = [
        evaluate(
            AloeSettings(**(SMALL | {"eval_start": start})),
            tmp_path / "a",
            dataset,
            rollouts,
            "validation",
            seed=s,
            job=Job(tmp_path),
        )["logit"]
        for start, s in ((None, 0), (None, 0), (None, 1), (4, 0), (4, 1))
    ]
    assert logits[0].equals(logits[1]) and not logits[0].equals(logits[2])
    assert logits[3].equals(logits[4]) and not logits[0].equals(logits[3])


def test_pieces_change_how_a_batch_is_computed_and_not_what_it_teaches(tmp_path, toy) -> None:
    """Gradients of a batch cut into 1, 4 or 16 pieces agree, and are those of the mean losses over the whole batch."""
    dataset, rollouts = toy
    gradients = []
    for buckets in (1, 4, 16):
        learner = VqaLearner(AloeSettings(**(SMALL | {"buckets": buckets})), 3, dataset, rollouts, Job(tmp_path))
        learner.model.double()
        cast(learner)
        values = learner.gradients(1, 2)
        gradients.append([values["train_loss"], *[p.grad for p in learner.model.parameters()]])
    for other in gradients[1:]:
        for a, b in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(a.double(), b.double(), rtol=1e-5, atol=1e-8)


def cast(learner: VqaLearner) -> None:
    """Lets the learner's batches come in float64."""
    split = learner.train_split
    split.frames = split.frames.double()
    added = split._added
    split._added = lambda *a: added(*a).astype(np.float64)


def test_every_epoch_asks_every_question_once_in_its_own_order(tmp_path, toy) -> None:
    dataset, rollouts = toy
    learner = VqaLearner(AloeSettings(**(SMALL | {"batch_size": 100})), 0, dataset, rollouts, Job(tmp_path))
    orders = [
        np.concatenate([learner.questions_of(epoch, step) for step in range(learner.steps)]) for epoch in (0, 1, 0)
    ]
    assert sorted(orders[0]) == list(range(1000)) == sorted(orders[1])
    assert (orders[0] == orders[2]).all() and (orders[0] != orders[1]).any()


def test_shares_leave_out_other_questions_each_epoch_and_mix_the_rest(tmp_path, toy) -> None:
    dataset, rollouts = toy
    settings = AloeSettings(**(SMALL | {"batch_size": 20, "shares": [1.0, 0.5, 0.25, 0.0]}))
    learner = VqaLearner(settings, 0, dataset, rollouts, Job(tmp_path))
    steps = [[learner.questions_of(epoch, step) for step in range(learner.steps)] for epoch in (0, 1)]
    drawn = [np.concatenate(epoch) for epoch in steps]
    for one in drawn:
        assert len(set(one)) == len(one) == 740
        kinds = np.bincount(learner.kinds[one], minlength=4)
        assert abs(kinds - [600, 100, 50, 0]).max() <= 20 and kinds.sum() == 740
    assert set(drawn[0]) != set(drawn[1])
    options = [(learner.kinds[step] > 0).mean() for step in steps[0]]
    assert 0.1 < np.mean(options[: len(options) // 2]) < 0.3 and 0.1 < np.mean(options[len(options) // 2 :]) < 0.3


def test_the_schedule_is_the_published_one() -> None:
    assert rate(0, 1000, 0.1) == pytest.approx(0.01)
    assert rate(50, 1000, 0.1) == pytest.approx(0.505)
    assert rate(100, 1000, 0.1) == pytest.approx(1)
    assert rate(550, 1000, 0.1) == pytest.approx(0.505)
    assert rate(1000, 1000, 0.1) == pytest.approx(0.01)
    # stopped at epoch 79 of 400, as the reported numbers were: 97 % of the peak
    assert rate(79 * 1589, 400 * 1589, 0.1) == pytest.approx(0.97, abs=0.005)


def test_the_schedule_may_be_longer_than_training(tmp_path, toy) -> None:
    dataset, rollouts = toy
    learner = VqaLearner(AloeSettings(**(SMALL | {"schedule_epochs": 8})), 0, dataset, rollouts, Job(tmp_path))
    learner.schedule(1, learner.steps - 1)
    steps = 8 * learner.steps
    assert learner.optimizers[0].param_groups[0]["lr"] == pytest.approx(3e-3 * rate(2 * learner.steps - 1, steps, 0.1))
    assert math.isclose(rate(steps // 4, steps, 0.1), 0.93, abs_tol=0.01)


@pytest.mark.skipif(os.environ.get("CTT_COMPILE") != "1", reason="compiling takes minutes: CTT_COMPILE=1 runs this")
def test_compiled_training_is_close_to_eager(tmp_path, toy) -> None:
    eager, compiled = run(tmp_path / "a", toy, epochs=1), run(tmp_path / "b", toy, epochs=1, compile=True)
    a, b = (pd.read_parquet(tmp_path / name / "predictions.parquet")["logit"] for name in "ab")
    assert (a - b).abs().mean() < 0.05 * a.abs().mean()
    assert abs(eager["average"] - compiled["average"]) < 3


def test_bf16_is_close_to_fp32(tmp_path, toy) -> None:
    exact = run(tmp_path / "a", toy, epochs=1)
    rounded = run(tmp_path / "b", toy, epochs=1, precision="bf16")
    assert abs(exact["average"] - rounded["average"]) < 12
    assert bytes_of(tmp_path / "a") != bytes_of(tmp_path / "b")


def test_predictions_are_written_whole_or_not_at_all(tmp_path) -> None:
    table = pd.DataFrame({"a": [1]})
    write_predictions(table, tmp_path / "x.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]
