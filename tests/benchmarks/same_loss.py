"""Whether cheaper arithmetic trains as well: cheap against exact dropout, bfloat16 against float32, both with cheap dropout.

`make same-loss` (`python -m tests.benchmarks.same_loss [OVERRIDE…]`) trains world models with both losses and the published
dropout of 0.1 on data=mini, three seeds each, in CTT_STORE, and prints validation errors and their differences, paired by
seed (equal weights to begin with, windows and masked slots; cheap dropout draws other masks than exact dropout, bfloat16 the
same as cheap dropout). That an interval holds 0 would show little with three seeds: how far it reaches shows whether
errors are the same, and is printed with it as a share of the error. AdamW, as published: with Muon
(`world_model.optimizer=muon world_model.learning_rate=0.004 world_model.decay_steps=150`) a training goes three times as
far, and other masks alone make another training of it.
Trainings that are in the store are only read. Minutes on two cores.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from ctt.config import compose
from ctt.planning import target_of
from ctt.stages.base import build
from ctt.store import Store
from ctt.study.loading import error_of

SEEDS = (0, 1, 2)
COMMON = (
    "data=mini", "world_model=mini", "aloe=mini", "world_model.dropout=0.1", "world_model.epochs=8", "device=cpu",
    "world_model.optimizer=adamw", "world_model.learning_rate=0.001", "world_model.decay_steps=null",
    "ctt_inv_weight=0.2", "ctt_suf_weight=0.1", "ctt_start_epoch=2",
)  # fmt: skip
WAYS = {
    "exact dropout": ("world_model.dropout_kind=exact",),
    "cheap dropout": ("world_model.dropout_kind=cheap",),
    "bf16": ("world_model.dropout_kind=cheap", "world_model.precision=bf16"),
}
BESIDE = {"cheap dropout": "exact dropout", "bf16": "cheap dropout"}


def error(call: tuple[str, int, tuple[str, ...]]) -> float:
    """Validation error on visible slots after the last epoch of one training."""
    way, seed, overrides = call
    config = compose([*COMMON, *WAYS[way], f"seed={seed}", *overrides])
    state = build(target_of(config).rollout.state, Store.open(config.store))
    return error_of(json.loads(state.file("metrics.json").read_text(encoding="utf-8"))["validation"])


def table(errors: Mapping[tuple[str, int], float]) -> Table:
    """What `error` found, {(way, seed): error}: means, and differences paired by seed with their 95 % intervals."""
    seeds = sorted({seed for _, seed in errors})
    out = Table(title=f"World model's validation error, {len(seeds)} seeds")
    for column in ("", "mean", "difference ± 95 %", "to", "within", *(f"seed {seed}" for seed in seeds)):
        out.add_column(column)
    for way in WAYS:
        own = np.array([errors[way, seed] for seed in seeds])
        difference, within = "–", "–"
        if way in BESIDE:
            other = np.array([errors[BESIDE[way], seed] for seed in seeds])
            apart = own - other
            half = stats.t.ppf(0.975, len(seeds) - 1) * apart.std(ddof=1) / np.sqrt(len(seeds))
            difference = f"{apart.mean():+.5f} ± {half:.5f}"
            within = f"{100 * (abs(apart.mean()) + half) / other.mean():.1f} %"
        each = (f"{value:.5f}" for value in own)
        out.add_row(way, f"{own.mean():.5f}", difference, BESIDE.get(way, "–"), within, *each)
    return out


def main(overrides: Sequence[str]) -> None:
    calls = [(way, seed, tuple(overrides)) for seed in SEEDS for way in WAYS]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        errors = dict(zip([call[:2] for call in calls], pool.imap(error, calls), strict=True))
    Console().print(table(errors))


if __name__ == "__main__":
    main(sys.argv[1:])
