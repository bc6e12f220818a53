"""A model that reads the question's words and never the video: how much words alone give away.

Softmax regression, one model a category, on the words of the question and of the choice, and on what takes both: the
form of the question with the kind of the choice, with each word of the choice, and with each word that both have (a
choice that names what is asked about is more often right). CLEVRER's own question-only LSTM
(https://arxiv.org/abs/1910.01442, table 2) has 59.7 % of explanatory and 53.8 % of counterfactual options.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from ctt.data.accuracy import metrics_of
from ctt.data.baselines.blind import blind_predictions
from ctt.data.questions.question_table import QuestionTable
from ctt.data.questions.vocab import CATEGORIES, PADDING, QUESTION_WORDS
from ctt.data.scene import COLORS, MATERIALS, SHAPES

PENALTY = 20.0
"""Weight of the squared weights (halved) beside the summed cross-entropy."""
ITERATIONS = 80
_DESCRIBING = np.array(
    [False] + [w.partition("'")[0].strip(",") in (*COLORS, *MATERIALS, *SHAPES) for w in QUESTION_WORDS]
)


def words_only_levels(train: QuestionTable, validation: QuestionTable) -> dict[str, Any]:
    """The accuracies (as `metrics_of`) of `words_only_predictions`, whose errors it raises."""
    return metrics_of(words_only_predictions(train, validation))


def words_only_predictions(train: QuestionTable, validation: QuestionTable) -> pd.DataFrame:
    """What the model fitted to `train` answers in `validation`, as `blind_predictions` tells it. Raises DataError if answers
    are unknown, or a whole category is missing from `train`. Seconds for a thousand videos, about a minute for CLEVRER."""
    predictions = blind_predictions(train, validation)
    for category in range(len(CATEGORIES)):
        told, asked = np.flatnonzero(train.category == category), np.flatnonzero(validation.category == category)
        if len(told) and len(asked):
            classes, truth = np.unique(train.answer[told], return_inverse=True)
            names: dict[bytes, int] = {}
            fitted = _features(train, told, names, new=True)
            weights = _fit(fitted, truth, len(classes))
            scores = _features(validation, asked, names, new=False, width=fitted.shape[1]) @ weights
            predictions.loc[asked, "prediction"] = classes[scores.argmax(axis=1)]
    predictions["correct"] = predictions["prediction"] == predictions["truth"]
    return predictions


def _features(
    table: QuestionTable, rows: np.ndarray, names: dict[bytes, int], *, new: bool, width: int | None = None
) -> csr_matrix:
    """(rows, features) of 0 and 1; `names` gives features their columns, and takes on new ones if `new`."""
    question, choice = (_words_in(tokens[rows]) for tokens in (table.question_tokens, table.choice_tokens))
    form, kind = table.form[rows], choice & ~_DESCRIBING
    asked = np.array([name.encode() for name in table.forms])[form]
    told = [np.packbits(line).tobytes() for line in kind]
    at: list[tuple[int, bytes]] = [(row, b"always") for row in range(len(rows))]
    at += [(row, asked[row] + told[row]) for row in range(len(rows))]
    for what, words, beside in (
        (b"question", question, lambda row: b""),
        (b"choice", choice, lambda row: b""),
        (b"asked", choice, lambda row: asked[row]),
        (b"both", question & choice & _DESCRIBING, lambda row: asked[row] + told[row]),
    ):
        at += [(row, b"%s %d %s" % (what, word, beside(row))) for row, word in zip(*np.nonzero(words), strict=True)]
    if new:
        for _, name in at:
            names.setdefault(name, len(names))
    known = [(row, names[name]) for row, name in at if name in names]
    lines, columns = np.array(known).T
    return csr_matrix((np.ones(len(known)), (lines, columns)), shape=(len(rows), width or len(names)))


def _words_in(tokens: np.ndarray) -> np.ndarray:
    """Which words are there, bool (rows, words), of ids (rows, length)."""
    there = np.zeros((len(tokens), len(QUESTION_WORDS) + 1), bool)
    there[np.arange(len(tokens))[:, None], tokens] = True
    there[:, PADDING] = False
    return there


def _fit(features: csr_matrix, truth: np.ndarray, classes: int) -> np.ndarray:
    """Weights (features, classes) that make the answers likely."""
    shape = (features.shape[1], classes)
    rows = np.arange(len(truth))

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape)
        scores = features @ weights
        scores -= scores.max(axis=1, keepdims=True)
        likely = np.exp(scores)
        total = likely.sum(axis=1, keepdims=True)
        value = float((np.log(total[:, 0]) - scores[rows, truth]).sum() + PENALTY / 2 * (flat @ flat))
        likely /= total
        likely[rows, truth] -= 1
        return value, (features.T @ likely + PENALTY * weights).ravel()

    found = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
    return np.asarray(found.x).reshape(shape)
