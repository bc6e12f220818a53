"""Planning ten thousand runs, next to what composing and planning a few runs by themselves takes."""

from __future__ import annotations

import itertools

from ctt.planning import Budget, Plan, compile_plan
from ctt.sweep import compile_sweep
from tests.benchmarks.harness import Comparison, Ratio, benchmark

GROUPS = ["data=mini", "world_model=mini", "aloe=mini"]
SINGLE = 20


@benchmark
def plan(toy: bool) -> Comparison:
    """One sweep of 10,000 runs, from its overrides to the numbers of `ctt plan`; and 20 of these runs one after another."""
    many, seeds = (2, 2) if toy else (34, 3)
    axes = {
        "ctt_inv_weight": [round(0.01 * (i + 1), 3) for i in range(many)],
        "ctt_suf_weight": [round(0.01 * i, 3) for i in range(many)],
        "ctt_start_epoch": [2, 4, 6],
    }
    lists = [f"{key}={','.join(map(str, values))}" for key, values in axes.items()]
    values = list(itertools.product(*axes.values()))[: 2 if toy else SINGLE]

    def compiled() -> Plan:
        found = compile_plan(compile_sweep(None, [*GROUPS, *lists, f"seed=range({seeds})"]))
        Budget(found).numbers()
        return found

    def each() -> list[Plan]:
        plans = []
        for run in values:
            single = [f"{key}={value}" for key, value in zip(axes, run, strict=True)]
            plans.append(compile_plan(compile_sweep(None, [*GROUPS, *single, "seed=0"])))
            Budget(plans[-1]).numbers()
        return plans

    def check() -> None:
        whole = compiled()
        points = 1 + len(list(itertools.product(*axes.values())))
        assert len(whole.targets) == points * seeds and len({t.key for t in whole.targets}) == points * seeds
        assert {target.key for plan in each() for target in plan.targets} <= set(whole.stages)

    size = {"runs": (1 + many * many * 3) * seeds, "single runs": len(values)}
    ways = {"10,000 runs in one sweep": compiled, "20 runs by themselves": each}
    ratios = [Ratio("plan_10000", slow="20 runs by themselves", fast="10,000 runs in one sweep")]
    return Comparison(ways, ratios, check, size)
