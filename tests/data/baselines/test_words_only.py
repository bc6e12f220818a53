"""The words-only model uses the information in the words and finds none where there is none."""

from __future__ import annotations

import random

import numpy as np
import pytest
import scipy.optimize
from scipy.sparse import csr_matrix

from ctt.core.errors import DataError
from ctt.data.baselines import words_only
from ctt.data.baselines.blind import blind_levels
from ctt.data.baselines.questions_asked import levels_where_asked
from ctt.data.baselines.words_only import words_only_levels
from ctt.data.questions.question_table import QuestionTable
from ctt.data.questions.vocab import CATEGORIES
from tests.data.clevrer.official_files import scene


def table(scenes: int, seed: int, informative: bool) -> QuestionTable:
    """Two options per question; if `informative` the one with the cube is correct, else a random one."""
    draw = random.Random(seed)
    made = [scene(i) for i in range(scenes)]
    for entry in made:
        entry["questions"][0]["answer"] = draw.choice("012")
        first, second = entry["questions"][1]["choices"]
        if draw.random() < 0.5:
            first["choice"], second["choice"] = second["choice"], first["choice"]
        right = "cube" in first["choice"] if informative else draw.random() < 0.5
        first["answer"], second["answer"] = ("correct", "wrong") if right else ("wrong", "correct")
    return QuestionTable.build(made, np.arange(scenes))


def test_informative_words_are_used_where_the_form_is_uninformative():
    train, validation = table(200, 1, informative=True), table(100, 2, informative=True)
    assert words_only_levels(train, validation)["per_option"]["predictive"] == 100.0
    assert blind_levels(train, validation)["per_option"]["predictive"] == 50.0


def test_uninformative_words_give_chance_accuracy():
    levels = words_only_levels(table(400, 1, informative=False), table(400, 2, informative=False))
    assert levels["per_option"]["predictive"] == pytest.approx(50, abs=6)
    assert levels["per_question"]["descriptive"] == pytest.approx(33, abs=8)


def test_the_gradient_is_that_of_the_loss(monkeypatch):
    caught = {}

    def minimize(loss, start, **_):
        caught.update(loss=loss)
        return scipy.optimize.OptimizeResult(x=start)

    monkeypatch.setattr(scipy.optimize, "minimize", minimize)
    rng = np.random.default_rng(0)
    features = csr_matrix((rng.random((30, 6)) < 0.4).astype(float))
    words_only._fit(features, rng.integers(0, 3, 30), 3)
    loss = caught["loss"]
    assert scipy.optimize.check_grad(lambda w: loss(w)[0], lambda w: loss(w)[1], rng.standard_normal(18)) < 1e-5


def test_questions_without_answers_are_refused():
    hidden = QuestionTable.build([scene(0, answered=False)], np.arange(1))
    with pytest.raises(DataError, match="need answers"):
        words_only_levels(table(10, 1, informative=False), hidden)


def test_a_category_without_training_questions_has_no_level():
    train, validation = table(20, 1, informative=True), table(10, 2, informative=True)
    for absent, pools in (("predictive", {"average", "multiple_choice"}), ("descriptive", {"average"})):
        remaining = train.rows(train.category != CATEGORIES.index(absent))
        for levels in (blind_levels, words_only_levels):
            found, whole = levels_where_asked(levels, remaining, validation), levels(train, validation)
            assert {name for name in ("average", "multiple_choice") if found[name] is None} == pools
            for kind in ("per_question", "per_option"):
                assert found[kind] == {**whole[kind], absent: None}
            assert levels_where_asked(levels, train, validation) == whole
    nothing = levels_where_asked(blind_levels, train.rows(train.category == 0), validation.rows(validation.category > 0))
    assert set(nothing["per_question"].values()) == {None}
