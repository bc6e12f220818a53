"""A report over many runs of the full validation split: 76,368 predictions each, read from a store whose artifacts are made up.

`python -m tests.benchmarks.report_scale [RUNS]` measures it whole (1,000 runs): seconds and peak memory of `ctt report` in a
process of its own.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ctt.data.questions.vocab import CATEGORIES
from ctt.planning import Plan
from ctt.report.tables.table import build
from ctt.report.writers import render
from ctt.store import Store
from ctt.study import loading
from tests.benchmarks.harness import Comparison, Ratio, benchmark
from tests.made_store import made_store
from tests.report import made_up_answers

ROWS, SEEDS = 76_368, 10


def store_of(folder: Path, runs: int, rows: int = ROWS) -> tuple[Store, Plan]:
    """A finished sweep of `runs` runs; they share a few prediction files by hard links, which readers cannot know."""
    asked = made_up_answers.questions(rows // 16)
    asked = pd.concat([asked, asked.assign(scene=asked.scene + 50_000)], ignore_index=True)[:rows]
    rng = np.random.default_rng(0)
    files = []
    for k in range(3):
        correct = rng.random(len(asked)) < 0.8
        frame = asked.assign(video=0, truth=1, prediction=correct.astype(int), correct=correct, logit=rng.normal(size=len(asked)))
        files.append(folder / f"{k}.parquet")
        frame.to_parquet(files[-1], compression="zstd")
    return made_store(folder / "store", "weights", *grid_of(runs), answers=lambda target, number: files[number % 3])


def grid_of(runs: int) -> tuple[str, ...]:
    """The overrides of that sweep."""
    inv = f"ctt_inv_weight=range(0,{runs // SEEDS})"
    return inv, "ctt_suf_weight=0", f"seed={','.join(map(str, range(SEEDS)))}"


@benchmark
def report_scale(toy: bool) -> Comparison:
    """Ours makes the whole table, intervals and all; the plain way only counts right questions with pandas, run by run."""
    folder = tempfile.TemporaryDirectory(prefix="ctt-scale-")
    runs = 20
    store, plan = store_of(Path(folder.name), runs, 600 if toy else ROWS)

    def ours() -> str:
        return render(build(loading.results(plan, store)), "json")

    def plain() -> list[dict[str, float]]:
        out = []
        for target in plan.targets:
            frame = pd.read_parquet(store.path(target.key) / "predictions.parquet")
            right = frame.groupby(["scene", "question_id"]).agg(category=("category", "first"), right=("correct", "all"))
            out.append((100 * right.groupby("category").right.mean()).to_dict())
        return out

    def check() -> None:
        estimates = build(loading.results(plan, store)).rows[0].estimates
        theirs = plain()[:SEEDS]
        for category in CATEGORIES:
            mean = estimates[category].mean
            assert mean is not None and abs(mean - np.mean([one[category] for one in theirs])) < 1e-9
        assert folder  # kept as long as the ways are

    sizes = {"runs": len(plan.targets), "predictions": 600 if toy else ROWS}
    return Comparison({"plain": plain, "ours": ours}, [Ratio("report_scale", "plain", "ours", at_least=2)], check, sizes)


def main(runs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="ctt-scale-") as folder:
        store, plan = store_of(Path(folder), runs)
        began, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "ctt", "report", "weights", "--format", "json"]
        done = subprocess.run(command, env={**os.environ, "CTT_STORE": str(store.root)}, stdout=subprocess.PIPE, check=True)
        seconds, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime
        print(
            f"{len(plan.targets)} runs × {ROWS} predictions: {seconds:.1f} s ({processor:.1f} s of processor time), "
            f"{used.ru_maxrss / 1e6:.2f} GB, {len(done.stdout) / 1e6:.1f} MB of JSON"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
