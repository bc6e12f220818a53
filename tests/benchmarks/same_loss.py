"""Whether cheaper arithmetic trains as well: validation error with exact dropout, cheap dropout, and bfloat16 beside it.

`python -m tests.benchmarks.same_loss [OVERRIDE…]` trains world models with both losses and the published dropout of 0.1 on
data=mini, three seeds each, in CTT_STORE, and prints the errors and their differences, paired by seed (equal weights to
begin with, windows and masked slots; other dropout masks). That an interval holds 0 would say little of three seeds: how far
it reaches at all is what says that errors are the same, and stands beside it as a share of the error. Trainings that are
in the store are only read. Minutes on two cores.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from ctt.config import compose
from ctt.plan import target_of
from ctt.recorded.show import error_of
from ctt.stages.base import build
from ctt.store import Store

SEEDS = (0, 1, 2)
COMMON = (
    "data=mini", "world_model=mini", "aloe=mini", "world_model.dropout=0.1", "world_model.epochs=8", "device=cpu",
    "ctt_inv_weight=0.2", "ctt_suf_weight=0.1", "ctt_start_epoch=2",
)  # fmt: skip
WAYS = {
    "exact dropout": ("world_model.dropout_kind=exact",),
    "cheap dropout": ("world_model.dropout_kind=cheap",),
    "cheap dropout, bf16": ("world_model.dropout_kind=cheap", "world_model.precision=bf16"),
}


def error(call: tuple[str, int, tuple[str, ...]]) -> float:
    """Validation error on visible slots after the last epoch of one training."""
    way, seed, overrides = call
    config = compose([*COMMON, *WAYS[way], f"seed={seed}", *overrides])
    state = build(target_of(config).rollout.state, Store.open(config.store))
    return error_of(json.loads(state.file("metrics.json").read_text(encoding="utf-8"))["validation"])


def main(overrides: Sequence[str]) -> None:
    calls = [(way, seed, tuple(overrides)) for seed in SEEDS for way in WAYS]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        errors = dict(zip([call[:2] for call in calls], pool.imap(error, calls), strict=True))
    table = Table(title=f"World model's validation error, {len(SEEDS)} seeds")
    for column in ("", "mean", "difference to exact dropout, ± 95 %", "within", *(f"seed {seed}" for seed in SEEDS)):
        table.add_column(column)
    for way in WAYS:
        own = np.array([errors[way, seed] for seed in SEEDS])
        apart = own - [errors["exact dropout", seed] for seed in SEEDS]
        half = stats.t.ppf(0.975, len(SEEDS) - 1) * apart.std(ddof=1) / np.sqrt(len(SEEDS))
        difference, within = "–", "–"
        if apart.any():
            difference = f"{apart.mean():+.5f} ± {half:.5f}"
            within = f"{100 * (abs(apart.mean()) + half) / (own - apart).mean():.1f} %"
        table.add_row(way, f"{own.mean():.5f}", difference, within, *(f"{value:.5f}" for value in own))
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
