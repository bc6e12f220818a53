"""The submission file of EvalAI's CLEVRER challenge (667): a list of scenes, each with the answers to its questions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ctt.data.questions.vocab import CLEVRER_VOCABULARY, Vocabulary

VERDICTS = ("wrong", "correct")


def submission(predictions: pd.DataFrame, vocabulary: Vocabulary = CLEVRER_VOCABULARY) -> list[dict[str, Any]]:
    """[{"scene_index", "questions": [{"question_id", "answer"} or {"question_id", "choices": [{"choice_id", "answer"}]}]}].

    predictions: all rows of the split in order, one per descriptive question or choice, with scene, question_id, choice_id
    (−1: descriptive) and logits. The padding class is never given as an answer.
    """
    scenes: dict[int, dict[int, dict[str, Any]]] = {}
    columns = (predictions[name].tolist() for name in ("scene", "question_id", "choice_id", "logits"))
    for scene, number, choice, logits in zip(*columns, strict=True):
        question = scenes.setdefault(scene, {}).setdefault(number, {"question_id": number})
        if choice < 0:
            question["answer"] = vocabulary.answers[int(np.argmax(logits[1:]))]
        else:
            question.setdefault("choices", []).append({"choice_id": choice, "answer": VERDICTS[int(logits[0] > 0)]})
    return [{"scene_index": scene, "questions": list(questions.values())} for scene, questions in scenes.items()]
