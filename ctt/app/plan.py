"""`ctt plan`: what a sweep would run, share and find in the store, before it costs anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ctt.planning.tree import print_plan
from ctt.planning.why import print_why
from ctt.study.stored_plan import plan


def show_plan(name: str, overrides: Sequence[str], store_root: Path, *, run: str | None, as_json: bool, devices: int) -> int:
    """Compiles the sweep and prints its plan, its numbers as JSON, or why `run` consists of the stages it does."""
    planned = plan(name, overrides, store=store_root)
    if run:
        print_why(planned.plan, run, set(planned.cached))
    elif as_json:
        print(json.dumps(planned.cost().numbers(), indent=1))
    else:
        print_plan(planned.cost(), planned.store, max(1, devices))
    return 0
