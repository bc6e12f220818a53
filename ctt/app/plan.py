"""`ctt plan`: what a sweep would run, share and find in the store, before it costs anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ctt.planning import Budget, compile_plan
from ctt.planning.costs import Costs
from ctt.planning.tree import print_plan
from ctt.planning.why import print_why
from ctt.store import Store
from ctt.sweep import compile_sweep


def show_plan(name: str, overrides: Sequence[str], store_root: Path, *, run: str | None, as_json: bool, devices: int) -> int:
    """Compiles the sweep and prints its plan, its numbers as JSON, or why `run` consists of the stages it does."""
    plan = compile_plan(compile_sweep(name, overrides))
    store = Store.open(store_root)
    cached = [key for key in plan.stages if store.has(key)]
    budget = Budget(plan, cached, Costs(store.root))
    if run:
        print_why(plan, run, set(cached))
    elif as_json:
        print(json.dumps(budget.numbers(), indent=1))
    else:
        print_plan(budget, store, max(1, devices))
    return 0
