"""Scale: 1,000 runs × 76,368 predictions fit in 4 GB, extrapolated from a few runs of that many predictions.

tests/benchmarks/report_scale.py measures the time.
"""

from __future__ import annotations

import gc
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from ctt.report.results import COLUMNS, PointResults, Results, RunResults
from ctt.report.tables.table import build
from ctt.report.writers import render
from tests.report import made_up_answers

RUNS, ALL_RUNS, BYTES = 12, 1000, 4e9


def test_a_thousand_runs_fit_in_four_gigabytes(tmp_path: Path) -> None:
    videos = made_up_answers.questions(3000)
    questions = pd.concat([videos, videos.assign(scene=videos.scene + 3000)], ignore_index=True)[:76_368]
    questions = questions.astype({"category": "category", "form": "category"})
    assert len(questions) == 76_368
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.parquet" for i in range(3)]
    for path in paths:
        questions.assign(correct=rng.random(len(questions)) < 0.8, truth=1, prediction=1, logit=0.5).to_parquet(path)
    points = [PointResults(f"p{i}", {"w": i}, baseline=i == 0) for i in range(RUNS // 3)]
    runs = [RunResults(i // 3, i % 3, partial(pd.read_parquet, paths[i % 3], columns=COLUMNS)) for i in range(RUNS)]
    results = Results("large", points, runs)

    text = render(build(results), "json")
    assert text.count('"missing": []') == len(points)
    gc.collect()
    tracemalloc.start()
    build(replace_runs(results, RUNS // 2))
    half = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    build(results)
    whole = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    growth = (whole - half) / (RUNS - RUNS // 2)
    assert whole + growth * ALL_RUNS < BYTES, f"{whole / 1e6:.0f} MB, and {growth / 1e6:.2f} MB for every further run"


def replace_runs(results: Results, count: int) -> Results:
    """The same sweep with its first runs only."""
    return Results(results.sweep, results.points, results.runs[:count])
