"""A model of the question's words without the video: it measures how much the words alone reveal.

Softmax regression, one model per category, on the words of the question and of the choice and on their interactions:
the form of the question with the kind of the choice, with each word of the choice, and with each word that both share
(a choice that names the question's objects is more often correct). CLEVRER's own question-only LSTM
(https://arxiv.org/abs/1910.01442, table 2) reaches 59.7 % of explanatory and 53.8 % of counterfactual options.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ctt.data.accuracy import metrics_of
from ctt.data.baselines.blind import blind_predictions
from ctt.data.questions.question_table import QuestionTable
from ctt.data.questions.vocab import PADDING
from ctt.data.scene import COLORS, MATERIALS, SHAPES

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

PENALTY = 20.0
"""Weight of half the squared weights, added to the summed cross-entropy."""
ITERATIONS = 80


def words_only_levels(train: QuestionTable, validation: QuestionTable) -> dict[str, Any]:
    """The accuracies (as `metrics_of`) of `words_only_predictions`; raises its errors."""
    return metrics_of(words_only_predictions(train, validation), validation.format.categories)


def words_only_predictions(train: QuestionTable, validation: QuestionTable) -> pd.DataFrame:
    """The answers of the model fitted to `train` on `validation`, in the format of `blind_predictions`. Raises DataError if
    answers are unknown or `train` lacks a whole category. Seconds for a thousand videos, about a minute for CLEVRER."""
    predictions = blind_predictions(train, validation)
    for category in range(len(train.format.categories)):
        fit_rows, rows = np.flatnonzero(train.category == category), np.flatnonzero(validation.category == category)
        if len(fit_rows) and len(rows):
            classes, truth = np.unique(train.answer[fit_rows], return_inverse=True)
            names: dict[bytes, int] = {}
            fitted = _features(train, fit_rows, names, new=True)
            weights = _fit(fitted, truth, len(classes))
            scores = _features(validation, rows, names, new=False, width=fitted.shape[1]) @ weights
            predictions.loc[rows, "prediction"] = classes[scores.argmax(axis=1)]
    predictions["correct"] = predictions["prediction"] == predictions["truth"]
    return predictions


def _features(
    table: QuestionTable, rows: np.ndarray, names: dict[bytes, int], *, new: bool, width: int | None = None
) -> csr_matrix:
    """(rows, features) of 0 and 1; `names` maps features to columns and is extended if `new`."""
    words = table.format.vocabulary.words
    question, choice = (_words_in(tokens[rows], len(words)) for tokens in (table.question_tokens, table.choice_tokens))
    describing = _describing(words)
    form, kind = table.form[rows], choice & ~describing
    forms = np.array([name.encode() for name in table.forms])[form]
    kinds = [np.packbits(line).tobytes() for line in kind]
    present: list[tuple[int, bytes]] = [(row, b"always") for row in range(len(rows))]
    present += [(row, forms[row] + kinds[row]) for row in range(len(rows))]
    for source, present_words, context in (
        (b"question", question, lambda row: b""),
        (b"choice", choice, lambda row: b""),
        (b"asked", choice, lambda row: forms[row]),
        (b"both", question & choice & describing, lambda row: forms[row] + kinds[row]),
    ):
        present += [(row, b"%s %d %s" % (source, k, context(row))) for row, k in zip(*np.nonzero(present_words), strict=True)]
    if new:
        for _, name in present:
            names.setdefault(name, len(names))
    known = [(row, names[name]) for row, name in present if name in names]
    lines, columns = np.array(known).T
    from scipy.sparse import csr_matrix

    return csr_matrix((np.ones(len(known)), (lines, columns)), shape=(len(rows), width or len(names)))


@cache
def _describing(words: tuple[str, ...]) -> np.ndarray:
    """bool (words + 1,): the words that describe an object."""
    return np.array([False] + [word.partition("'")[0].strip(",") in (*COLORS, *MATERIALS, *SHAPES) for word in words])


def _words_in(tokens: np.ndarray, words: int) -> np.ndarray:
    """Which of the words occur, bool (rows, words + 1), in token ids (rows, length)."""
    present = np.zeros((len(tokens), words + 1), bool)
    present[np.arange(len(tokens))[:, None], tokens] = True
    present[:, PADDING] = False
    return present


def _fit(features: csr_matrix, truth: np.ndarray, classes: int) -> np.ndarray:
    """Weights (features, classes) of the least penalised cross-entropy."""
    from scipy.optimize import minimize

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
