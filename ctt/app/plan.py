"""`ctt plan`: what a sweep would run, share and find in the store, before it costs anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ctt.core.errors import UsageError
from ctt.execution.launchers import check_settings
from ctt.planning.why import print_why
from ctt.study.detectable_plan import detection, numbers
from ctt.study.stored_plan import plan


def show_plan(
    name: str,
    overrides: Sequence[str],
    store_root: Path,
    *,
    run: str | None,
    as_json: bool,
    devices: int,
    detect: float | None = None,
) -> int:
    """Compiles the sweep and prints its plan with what it could detect, its numbers as JSON, or why `run` consists of the
    stages it does. detect: a difference in points, for which the seeds that detect it are printed too.

    Raises UsageError if it is not above 0, if there are no devices, or if there is no such launcher.
    """
    if detect is not None and not detect > 0:
        raise UsageError(f"--detect must be a difference above 0 points, got {detect:g}")
    if devices < 1:
        raise UsageError(f"--devices must be at least 1, got {devices}")
    planned = plan(name, overrides, store=store_root)
    check_settings(planned.plan.sweep.baseline.config)
    if run:
        print_why(planned.plan, run, set(planned.cached))
        return 0
    if as_json:
        more = {} if detect is None else {"detectable": numbers(detection(planned.plan, planned.store), detect)}
        print(json.dumps(planned.cost().numbers() | more, indent=1))
        return 0
    planned.print(devices, detect=detect)
    return 0
