"""The files that ALOE writes: predictions, accuracies and the EvalAI submission."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from ctt.core.build_context import BuildContext, read_metrics
from ctt.data.accuracy import metrics_of
from ctt.data.dataset import Dataset
from ctt.data.questions.vocab import ANSWERS
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.aloe.frame_sampling import FrameSampling
from ctt.training.aloe_answers import evaluate, write_predictions
from tests.training.small_aloe import SMALL, bytes_of, run
from tests.training.toy_questions import make


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return make(tmp_path_factory.mktemp("toy"), train=200, validation=60)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, toy):
    """A finished training: its folder and metrics."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, run(folder, toy)


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
    assert lines[-1]["average"] == recounted["average"] and lines[-1]["explanatory"] == recounted["per_question"]["explanatory"]
    best = max(lines, key=lambda line: line["average"])
    curve = written["curve"]
    assert curve["best"]["epoch"] == best["step"] and curve["best"]["descriptive"] == best["descriptive"]
    assert curve["last"]["epoch"] == 2 and curve["last"]["average"] == recounted["average"]
    assert curve["last"]["multiple_choice"] == recounted["multiple_choice"]
    assert (curve["videos"], curve["of"], curve["stopped"], curve["epochs"]) == (60, 60, False, 2)
    assert written["cost"]["steps_per_second"] > 0 and written["cost"]["peak_memory_mib"] > 10
    again = evaluate(AloeSettings(**SMALL), folder, dataset, rollouts, "validation", context=BuildContext(tmp_path))
    pd.testing.assert_frame_equal(again, table)


def test_accuracies_recounted_from_the_files_alone(toy, trained) -> None:
    """Without ctt's code: from the official question file and the prediction file's logits."""
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
        answer = answers.get(best) if row["choice_id"] == -1 else "correct" if logits[0] > 0 else "wrong"
        given[row["scene"], row["question_id"], row["choice_id"]] = answer
    total, right, options, chosen = {}, {}, {}, {}
    for scene in json.loads((dataset.folder / "questions_validation.json").read_text()):
        for question in scene["questions"]:
            kind, at = question["question_type"], (scene["scene_index"], question["question_id"])
            parts = question.get("choices", [{"choice_id": -1, **question}])
            fine = [given.pop((*at, part["choice_id"])) == part["answer"] for part in parts]
            total[kind], right[kind] = total.get(kind, 0) + 1, right.get(kind, 0) + all(fine)
            options[kind], chosen[kind] = options.get(kind, 0) + len(fine), chosen.get(kind, 0) + sum(fine)
    assert not given
    for kind in total:
        assert metrics["per_question"][kind] == pytest.approx(100 * right[kind] / total[kind], abs=1e-9)
        assert metrics["per_option"][kind] == pytest.approx(100 * chosen[kind] / options[kind], abs=1e-9)
    assert metrics["average"] == pytest.approx(100 * sum(right.values()) / sum(total.values()), abs=1e-9)
    several = [kind for kind in total if kind != "descriptive"]
    pooled = 100 * sum(right[k] for k in several) / sum(total[k] for k in several)
    assert metrics["multiple_choice"] == pytest.approx(pooled, abs=1e-9)


@pytest.mark.slow
def test_all_categories_can_be_given_predicted_frames(tmp_path, toy) -> None:
    """With rollout_frames=all predicted frames affect the answers of all categories, with `predictive` only of that one."""
    dataset, rollouts = toy
    others = {split: frames[:, :, ::-1].copy() for split, frames in rollouts.items()}
    for which, reached in (("all", True), ("predictive", False)):
        folder = tmp_path / which
        run(folder, toy, epochs=1, rollout_frames=which)
        settings = AloeSettings(**(SMALL | {"epochs": 1, "rollout_frames": which}))
        a, b = (evaluate(settings, folder, dataset, r, "validation", context=BuildContext(tmp_path)) for r in (rollouts, others))
        changed = (a["logit"] != b["logit"]).groupby(a["category"]).mean()
        assert changed["predictive"] > 0.9
        for category in ("descriptive", "explanatory"):
            assert (changed[category] > 0.9) if reached else (changed[category] == 0)


@pytest.mark.slow
def test_an_aloe_trained_without_predictive_questions_does_not_depend_on_rollouts(tmp_path, toy) -> None:
    """Other rollouts give the same weights, so only answers to predictive questions change; with a share of predictive
    questions in training, weights differ."""
    dataset, rollouts = toy
    others = {split: frames[:, :, ::-1].copy() for split, frames in rollouts.items()}
    for share in (0.0, 0.2):
        shares, one, two = [0.2, 0.2, share, 0.2], tmp_path / f"one {share}", tmp_path / f"two {share}"
        assert FrameSampling(AloeSettings(shares=shares)).trained_on_predicted == (share > 0)
        for folder, shown in ((one, rollouts), (two, others)):
            run(folder, (dataset, shown), epochs=1, shares=shares)
        same = bytes_of(one)["model.safetensors"] == bytes_of(two)["model.safetensors"]
        assert same == (not share)
    a, b = (pd.read_parquet(tmp_path / name / "predictions.parquet") for name in ("one 0.0", "two 0.0"))
    changed = (a["logit"] != b["logit"]).groupby(a["category"]).mean()
    assert changed["predictive"] > 0.9 and changed["descriptive"] == changed["explanatory"] == 0


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
        for answer, question in zip(answered["questions"], asked["questions"], strict=True):
            at = (answered["scene_index"] - 5_000, question["question_id"])  # the same video among the validation ones
            assert answer["question_id"] == question["question_id"]
            if "choices" not in question:
                assert set(answer) == {"question_id", "answer"}
                assert answer["answer"] == ANSWERS[table.loc[(*at, -1), "prediction"] - 1]
                count += 1
                continue
            assert set(answer) == {"question_id", "choices"} and len(answer["choices"]) == len(question["choices"])
            for choice, option in zip(answer["choices"], question["choices"], strict=True):
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
            context=BuildContext(tmp_path),
        )["logit"]
        for start, s in ((None, 0), (None, 0), (None, 1), (4, 0), (4, 1))
    ]
    assert logits[0].equals(logits[1]) and not logits[0].equals(logits[2])
    assert logits[3].equals(logits[4]) and not logits[0].equals(logits[3])


def test_predictions_are_written_whole_or_not_at_all(tmp_path) -> None:
    table = pd.DataFrame({"a": [1]})
    write_predictions(table, tmp_path / "x.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]
