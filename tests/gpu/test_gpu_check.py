"""`make gpu-check` on a CPU: every check runs and holds in small sizes; one that fails, or has no time left, ends no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.gpu.__main__ import CHECKS, RECIPES, aims
from tests.gpu.checks import Check, Outcome, run_checks
from tests.gpu.equality import TOLERANCES
from tests.gpu.material import Material
from tests.gpu.waits import Profiled

ALOE_RECIPES = ("published", "fast", "compiled")
ROOT = Path(__file__).resolve().parents[2]


def gpu_check(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.gpu", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1700)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_check_runs_and_holds_in_small_sizes(tmp_path: Path) -> None:
    done = gpu_check("--device", "cpu", "--small", "--minutes", "60", "--out", str(tmp_path / "gpu.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert {"card", "driver", "torch", "date", "commit", "minutes"} <= set(found) and found["tolerances"] == TOLERANCES
    checks = found["checks"]
    assert list(checks) == [check.name for check in CHECKS]
    assert {record["status"] for record in checks.values()} == {"passed"}
    assert all(record["values"] for record in checks.values())
    for source in ("attention", "rollout_attention", "jacobian", "learned", "oracle"):
        assert checks["step equals that of the CPU"]["values"][f"graph {source}: gradient"]["error"] < 1e-9
        assert "events_per_step" in checks["host waits"]["values"][f"graph {source}"]
    for name, recipes in (("plain", RECIPES), ("both losses", RECIPES), ("ALOE", ALOE_RECIPES)):
        assert {f"{name}, {recipe}" for recipe in recipes} <= set(found["figures"])
        assert found["aims"][name]["reached"] is None, "small sizes measure nothing"
    ratios = found["ours_over_literal"]
    assert set(ratios["both losses"]) == set(RECIPES) and set(ratios["ALOE, bf16"]) == set(ALOE_RECIPES)
    assert set(ratios["evaluation, fp32"]) == {"bf16", "fp32"} and set(ratios["rollout"]) == {"batch 8", "batch 2"}


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_ends_with_2_and_one_line() -> None:
    done = gpu_check()
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("make gpu-check needs a GPU: device=cuda asks for a GPU")


def test_a_check_that_fails_and_one_without_time_end_no_other(tmp_path: Path) -> None:
    def values(material: Material, out: Outcome) -> None:
        out.within("near", 0.1, 0.2)
        out.within("not a number", float("nan"), 0.2)

    def broken(material: Material, out: Outcome) -> None:
        out.values["before"] = 1
        raise RuntimeError("no kernel")

    def endless(material: Material, out: Outcome) -> None:
        time.sleep(60)

    def last(material: Material, out: Outcome) -> None:
        out.values["ran"] = True

    checks = [Check("values", 0.1, values), Check("broken", 0.1, broken), Check("long", 999, last), Check("last", 0.1, last)]
    reported: list[str] = []
    material = Material("cpu", False, tmp_path)
    found = run_checks(checks, material, 5, lambda name, record: reported.append(f"{name} {record['status']}"))
    assert reported == ["values failed", "broken failed", "long skipped", "last passed"]
    assert found["values"]["failures"] == ["not a number: error nan is over 0.2"] and "near" in found["values"]["values"]
    assert found["broken"]["error"] == "RuntimeError: no kernel" and found["broken"]["values"] == {"before": 1}
    assert found["long"]["reason"].endswith(" s are left of 5 min; it takes about 999 s")
    ended = run_checks([Check("endless", 0, endless), checks[-1]], material, 0.005, lambda name, record: None)
    assert ended["endless"]["error"] == "TimeIsUp: the time of all checks is up" and ended["endless"]["seconds"] < 30
    assert ended["last"]["status"] == "skipped"


def test_reads_of_values_are_counted_by_the_step(tmp_path: Path) -> None:
    clock, value = Profiled(Material("cpu", True, tmp_path), 1, 3), torch.ones(())
    for step in range(1, 5):
        for _ in range(step):
            value.item()
        clock.progress(step, 4, "step")
    assert clock.counted() == {"aten::_local_scalar_dense": 2.5}, "two in the second step, three in the third"
    assert clock.measured["steps"] == 2 and clock.measured["iterations_per_second"] > 0


def test_aims_are_judged_by_the_best_recipe(tmp_path: Path) -> None:
    material = Material("cpu", False, tmp_path)
    rates: dict[str, Any] = {"plain, published": 30.0, "plain, fast": 41.0, "both losses, fast": 9.0}
    material.figures |= rates
    found = aims(material)
    assert (found["plain"]["reached"], found["plain"]["by"], found["plain"]["held"]) == (41.0, "fast", True)
    assert found["plain"]["aim_on_h100"] == ">= 2.5 x 16.2 = 40.5 it/s"
    assert found["both losses"]["held"] is False and found["ALOE"]["held"] is None


def test_expected_times_fit_the_time_there_is() -> None:
    assert sum(check.expected for check in CHECKS) <= 8 * 60
