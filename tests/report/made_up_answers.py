"""Made-up predictions: questions of all four categories, clustered in videos, with chosen accuracies."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ctt.data.questions.vocab import CATEGORIES
from ctt.report.results import Noise, PointResults, Results, RunResults

FORMS = {
    "descriptive": ["descriptive:count", "descriptive:exist", "descriptive:query_color"],
    "explanatory": ["explanatory:not", "explanatory:responsible"],
    "predictive": ["predictive:next"],
    "counterfactual": ["counterfactual:happens", "counterfactual:not"],
}
PER_VIDEO = {"descriptive": 6, "explanatory": 2, "predictive": 1, "counterfactual": 2}
ACCURACY = {"descriptive": 0.6, "explanatory": 0.3, "predictive": 0.1, "counterfactual": 0.0}


def questions(videos: int, seed: int = 0) -> pd.DataFrame:
    """The rows of a question file: one per sequence, unequal counts per video, some videos without a category."""
    rng = np.random.default_rng(seed)
    rows = []
    for scene in range(10000, 10000 + videos):
        question = 0
        for category in CATEGORIES:
            for _ in range(rng.integers(0, 2 * PER_VIDEO[category] + 1)):
                form = FORMS[category][rng.integers(len(FORMS[category]))]
                choices = [-1] if category == "descriptive" else range(rng.integers(2, 5))
                rows += [(scene, question, choice, category, form) for choice in choices]
                question += 1
    return pd.DataFrame(rows, columns=["scene", "question_id", "choice_id", "category", "form"])


def predictions(questions: pd.DataFrame, seed: int, shift: dict[str, float] | None = None) -> pd.DataFrame:
    """Answers that vary by video (shared by runs), by run (`seed`) and by `shift` (probits, a category)."""
    video = np.random.default_rng(1).normal(0, 0.4, 100_000)[questions["scene"].to_numpy() % 100_000]
    row = np.random.default_rng(2).normal(0, 0.8, len(questions))
    rng = np.random.default_rng([3, seed])
    categories = questions["category"]
    level = categories.map(ACCURACY).to_numpy(float) + categories.map(shift or {}).fillna(0).to_numpy(float)
    score = level + video + row + rng.normal(0, 0.05) + rng.normal(0, 0.5, len(questions))
    correct = score > 0
    return questions.assign(truth=1, prediction=correct.astype(int), correct=correct, logit=score.astype(np.float32))


def results(videos: int = 40, seeds: int = 3, **more: object) -> Results:
    """A 3 × 3 sweep of both weights; a larger weight of invariance makes counterfactual answers worse."""
    rows = questions(videos)
    weights = [0.0, 0.05, 0.2]
    points, runs = [], []
    for inv in weights:
        for suf in weights:
            base = inv == suf == 0
            label = "baseline" if base else f"inv={inv} suf={suf}"
            values = {"ctt_inv_weight": inv, "ctt_suf_weight": suf}
            points.append(PointResults(label, values, baseline=base))
            for seed in range(seeds):
                number = 100 * len(points) + seed
                shift = {"counterfactual": -2.5 * inv, "explanatory": -0.5 * inv}
                frame = predictions(rows, number, shift)
                errors = {"world_model": 0.0147 + 0.001 * inv + 1e-4 * seed, "rollout": 0.03 + 0.02 * inv + 3e-4 * seed}
                cost = {"device_hours": 3.1 + inv, "steps_per_second": 16.2 - 40 * inv}
                runs.append(RunResults(len(points) - 1, seed, frame, errors, cost=cost, numerics="cpu"))
    return Results("weights", points, runs, **more)  # type: ignore[arg-type]


def noise(videos: int = 40, groups: int = 1, runs: int = 6) -> Noise:
    """A/A runs: `runs` predictions for each of `groups` world models, which differ in ALOE's seed."""
    rows = questions(videos)
    numbers = [[1000 + 10 * g + k for k in range(runs)] for g in range(groups)]
    return Noise("ALOE seeds", [[predictions(rows, number) for number in group] for group in numbers])
