"""What `make study` prints is counted right, and its trials can be trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ctt.core.build_context import BuildContext
from ctt.data.baselines.words_only import words_only_levels
from ctt.data.questions.vocab import CATEGORIES
from ctt.store import Store
from tests.benchmarks import aloe_study
from tests.benchmarks.aloe_study import TRIALS, calls, config_of, settings_of
from tests.benchmarks.aloe_study_report import PAID, Finished, difference, report, rights_of
from tests.training.toy_questions import make


def test_intervals_are_those_of_a_bootstrap_over_videos() -> None:
    random = np.random.default_rng(0)
    asked = random.integers(1, 12, 300).astype(float)
    ease = random.beta(2, 2, 300)
    one, other = (np.stack([random.binomial(asked.astype(int), ease), asked], 1) for _ in range(2))
    level, half = difference([one], [other])
    draws = random.integers(0, 300, (4000, 300))
    drawn = 100 * (one[:, 0] - other[:, 0])[draws].sum(1) / asked[draws].sum(1)
    assert level == pytest.approx(100 * (one[:, 0].sum() - other[:, 0].sum()) / asked.sum())
    assert half == pytest.approx(1.96 * drawn.std(), rel=0.1)


def test_seeds_that_differ_widen_the_interval() -> None:
    base = np.stack([np.full(50, 2.0), np.full(50, 4.0)], 1)
    runs = [base + np.array([shift, 0.0]) for shift in (0.0, 1.0, -1.0)]
    level, half = difference(runs, [base] * 3)
    assert level == 0 and half == pytest.approx(196 * (50**2 / 3) ** 0.5 / 200)


def test_every_trial_has_settings_and_the_first_seeds_come_first() -> None:
    for trial in TRIALS:
        settings_of(trial, config_of(trial, 0, ()))
    assert len({trial.name for trial in TRIALS}) == len(TRIALS)
    assert [seed for _, seed in calls()] == sorted(seed for _, seed in calls())
    assert len(calls()) == sum(len(trial.seeds) for trial in TRIALS)


@pytest.mark.slow
def test_trials_can_be_trained_and_are_not_trained_again(tmp_path: Path) -> None:
    tiny = "data.train=6 data.validation=3 data.density=1 world_model.epochs=1 world_model.windows.per_epoch=32 aloe.epochs=1"
    overrides = (*tiny.split(), "aloe.layers=1", "aloe.eval_videos=3", f"store={tmp_path}")
    numbers = [n for n, trial in enumerate(TRIALS) if trial.name in ("predicted frames", "true future") or trial.changes]
    for number in numbers:
        aloe_study.run((number, 0, overrides, None))
        assert aloe_study.run((number, 0, overrides, None)).endswith("done before")
    found = list(aloe_study.finished(Store.open(tmp_path), overrides))
    assert len(found) == len(numbers) == 4 and "| true future |" in report(found)
    assert len(set(aloe_study.keys())) == len(calls())


def test_the_report_counts_from_the_prediction_files(tmp_path: Path) -> None:
    dataset, _ = make(tmp_path / "data", train=20, validation=8)
    asked = dataset.split("validation").questions
    category = np.array(CATEGORIES)[asked.category]
    found = []
    for trial, seed, right in (("given frames alone", 0, 0.5), ("true future", 0, 1.0), ("twice as long", 0, 0.0)):
        folder = tmp_path / trial
        folder.mkdir()
        correct = np.random.default_rng(1).random(len(category)) < right
        table = pd.DataFrame({"video": asked.video, "category": category, "correct": correct})
        table.to_parquet(folder / "predictions.parquet")
        (folder / PAID).write_text(json.dumps({"cpu_seconds": 12.0}))
        for epoch in range(1, 7):
            BuildContext(folder).log(epoch, descriptive=10.0 * epoch, train_option_loss=0.7 - 0.01 * epoch)
        found.append(Finished(trial, seed, folder, dataset))
    rights = rights_of(pd.read_parquet(found[0].folder / "predictions.parquet"))
    for name in ("descriptive", "explanatory", "predictive"):
        assert rights[name].sum(0).tolist() == [correct_of(found[0], name), (category == name).sum()]
    text = report(found)
    above = {line.split(" | ")[0]: line for line in text.partition("| while it is trained")[0].splitlines()}
    blind = float(above["| the blind levels themselves"].split(" | ")[3].rstrip(" %"))
    assert f"| {100 - blind:+.1f} " in above["| true future"] and f"| −{blind:.1f} " in above["| twice as long"]
    words = words_only_levels(dataset.split("train").questions, asked)["per_option"]["explanatory"]
    level = float(above["| the blind levels themselves"].split(" | ")[4].rstrip(" %"))
    words_alone = above["| the words alone, a linear model"].split(" | ")[4].replace("−", "-")
    assert float(words_alone.partition(" ")[0]) == pytest.approx(words - level, abs=0.11) and abs(words - level) > 5
    assert f"| {100 - words:+.1f} " in above["| true future − the words alone"]
    assert "| true future | 1, 4, 6 | 10, 40, 60 | 0.69, 0.66, 0.64 | 2 |" in text
    assert "All 3 trainings took 36 CPU seconds." in text
    assert f"descriptive at least 20 points above the blind level: true future ({100 - blind:+.1f} ±" in text


def correct_of(one: Finished, name: str) -> int:
    table = pd.read_parquet(one.folder / "predictions.parquet")
    return int((table["correct"] & (table["category"] == name)).sum())
