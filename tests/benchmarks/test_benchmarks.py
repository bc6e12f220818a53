"""Every benchmark runs, at toy sizes, and compares things that agree. Nothing here is timed against a bound."""

from __future__ import annotations

import importlib
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.harness import Comparison, Measured, Ratio, find, measure

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]

NAMES = {
    "step_both_exact", "step_both_fast", "step_both_bf16", "step_both_over_plain", "windows", "windows_bf16",
    "rollout_reference", "rollout_paper", "aloe_train_exact", "aloe_train_fast", "aloe_train_bf16", "aloe_eval",
    "aloe_eval_bf16", "aloe_data", "launch_overhead_local", "report_scale", "graph_jacobian_over_attention",
    "attend_forward_8", "attend_train_190", "graph_learned_over_attention",
    "graph_rollout_attention_over_attention", "graph_oracle_over_attention",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(find()))
def test_a_benchmark_compares_equal_things(name: str) -> None:
    if name == "launch_slurm" and os.environ.get("CTT_FAULTS") != "full":
        pytest.skip("a cluster of its own: `CTT_FAULTS=full` runs it")
    comparison = find()[name](True)
    comparison.check()
    for way in comparison.ways.values():
        way()
    assert comparison.ratios and comparison.sizes
    for ratio in comparison.ratios:
        assert {ratio.slow, ratio.fast} <= set(comparison.ways)


def test_all_promised_ratios_are_measured() -> None:
    found = [ratio.name for make in find().values() for ratio in make(True).ratios]
    assert len(found) == len(set(found)) and set(found) >= NAMES


def test_a_ratio_is_the_median_over_rounds() -> None:
    now = 0.0
    took = {"slow": itertools.cycle([4.0, 6.0, 8.0]), "fast": itertools.cycle([2.0])}

    def way(name: str) -> Callable[[], None]:
        def call() -> None:
            nonlocal now
            now += next(took[name])

        return call

    comparison = Comparison({name: way(name) for name in took}, [Ratio("r", "slow", "fast", at_least=3)], lambda: None)
    (measured,) = [m for m in measure(comparison, rounds=3, clock=lambda: now) if isinstance(m, Measured)]
    assert measured.value == 3.0 and measured.spread == (2.0, 4.0) and measured.seconds == {"slow": 6.0, "fast": 2.0}
    assert measured.ratio.held(3.0) and not measured.ratio.held(2.9)


def test_the_command_prints_a_ratio_and_what_it_was(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    command = importlib.import_module("tests.benchmarks.__main__")
    monkeypatch.setattr("sys.argv", ["bench", "--toy", "--rounds", "1", "windows"])
    assert command.main() in (0, 1)
    assert "windows" in capsys.readouterr().out


COMMANDS = [path for path in ROOT.glob("tests/**/*.py") if '__name__ == "__main__"' in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_what_the_makefile_calls_can_be_imported(path: Path) -> None:
    assert importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
