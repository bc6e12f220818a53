"""What a plan says a sweep could detect: by the noise of the store's sweeps, or by the demo's."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctt.app.plan import show_plan
from ctt.core.errors import UsageError
from ctt.data.categories import CLEVRER_CATEGORIES
from ctt.planning import compile_plan
from ctt.report.tables.table import build
from ctt.store import Store
from ctt.study.detectable_plan import detection, lines, numbers
from ctt.study.loading import results
from ctt.sweep import compile_sweep
from tests.made_store import MINI, made_store


def test_noise_of_the_store_is_that_of_its_tables(tmp_path: Path) -> None:
    store, plan = made_store(tmp_path, "soft", "seed=0,1,2,3")
    found = detection(plan, store)
    assert "measured in this store (sweep soft, 4 seeds)" in found.source and found.videos is None
    row = build(results(plan, store)).rows[1]
    for name, (value, low, high) in found.differences(4).items():
        estimate = row.estimates[name]
        assert (value, low, high) == pytest.approx((estimate.smallest, estimate.smallest_low, estimate.smallest_high))
    other = compile_plan(compile_sweep("weights", [*MINI, "seed=0,1,2,3,4,5,6,7"]))
    more = detection(other, store)
    assert more.source == found.source, "the same data and ALOE"
    assert all(more.differences(8)[name][0] < found.differences(4)[name][0] for name in CLEVRER_CATEGORIES.names)


def test_the_seeds_of_detect_are_the_fewest_that_do(tmp_path: Path) -> None:
    store, plan = made_store(tmp_path, "soft", "seed=0,1,2,3")
    found = detection(plan, store)
    for name, seeds in found.seeds_for(5.0).items():
        assert seeds is None or found.differences(seeds)[name][0] <= 5.0
        assert seeds is None or seeds == 3 or found.differences(seeds - 1)[name][0] > 5.0
    text = " ".join(lines(found, 5.0))
    assert "min. detectable difference (80 % power) with 4 seeds" in text and "seeds that detect 5 points" in text
    assert numbers(found, 5.0)["seeds_for"]["difference"] == 5.0


def test_other_noise_is_the_demos_and_said_to_be_so(tmp_path: Path) -> None:
    store, _ = made_store(tmp_path, "soft", "seed=0,1,2,3")
    clevrer = compile_plan(compile_sweep("reported", []))
    found = detection(clevrer, store)
    assert found.source.startswith("the demo's noise (200 videos, 3 seeds), for 5,000 videos; none like this sweep's")
    assert set(found.noise) == set(CLEVRER_CATEGORIES.names)
    few = detection(compile_plan(compile_sweep("demo", [])), Store.open(tmp_path / "empty"))
    assert all(found.differences(6)[name][0] <= few.differences(6)[name][0] for name in found.noise)
    one = compile_plan(compile_sweep("demo", ["seed=0"]))
    assert "with 1 seed no difference can be tested" in lines(detection(one, store), None)[0]


def test_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_plan("demo", [], tmp_path, run=None, as_json=False, devices=1, detect=2.0) == 0
    text = capsys.readouterr().out
    assert "seeds that detect 2 points (80 % power): descriptive " in text and "the demo's noise" in text
    with pytest.raises(UsageError, match="--detect must be a difference above 0"):
        show_plan("demo", [], tmp_path, run=None, as_json=False, devices=1, detect=0.0)
