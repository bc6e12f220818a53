"""`make same-loss` trains every way it compares, and its intervals are those of a paired t test."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats

from tests.benchmarks.same_loss import WAYS, error, table

TOY = (
    "data.train=8", "data.validation=4", "data.workers=1", "world_model.epochs=1", "ctt_start_epoch=0",
    "world_model.windows.per_epoch=32", "world_model.windows.validation=16",
)  # fmt: skip


def test_every_way_trains_and_they_differ(tmp_path: Path) -> None:
    errors = {way: error((way, 0, (*TOY, f"store={tmp_path / 'store'}"))) for way in WAYS}
    assert len(set(errors.values())) == len(WAYS) and all(0 < value < 10 for value in errors.values())
    assert errors["bf16"] == pytest.approx(errors["cheap dropout"], rel=0.05)  # the same masks, rounded


def test_differences_are_paired_by_seed() -> None:
    rows = {"exact dropout": [3.0, 1.0, 2.0], "cheap dropout": [3.2, 1.1, 2.3], "bf16": [3.1, 1.0, 2.2]}
    found = table({(way, seed): value for way, values in rows.items() for seed, value in enumerate(values)})
    cells = [list(column.cells) for column in found.columns]
    interval = stats.ttest_rel(rows["cheap dropout"], rows["exact dropout"]).confidence_interval(0.95)
    assert cells[0] == list(rows) and cells[1] == ["2.00000", "2.20000", "2.10000"]
    assert cells[2][0] == "–" and cells[2][1] == f"+0.20000 ± {(interval.high - interval.low) / 2:.5f}"
    assert cells[3] == ["–", "exact dropout", "cheap dropout"] and cells[4][1] == f"{50 * interval.high:.1f} %"
