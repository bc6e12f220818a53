"""Relauncher: continues a record whose launcher has exited: it adopts running jobs and starts the others.

    python -m ctt.app.relauncher RECORD_FOLDER/jobs

It reads the sweep from its record alone and runs the submitted code, whatever was edited since.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from ctt.app.sweep import carry_out
from ctt.core.terminal_console import terminal
from ctt.execution import launchers
from ctt.execution.jobs import spec
from ctt.execution.site_defaults import with_site
from ctt.store import Store
from ctt.study import record


def main(arguments: list[str]) -> int:
    """Returns 0, or 1 if a run of the sweep is missing."""
    jobs = Path(arguments[0])
    plan = record.load(jobs.parent)
    store = Store.open(jobs.parents[3])
    config = with_site(plan.sweep.baseline.config, plan.sweep.overrides)
    launcher = launchers.of_plan(config, plan, store, spec.read(jobs))
    launcher.adopt()
    with contextlib.suppress(KeyboardInterrupt):  # SIGTERM: the launcher has ended its jobs
        return carry_out(config, plan, store, jobs.parent, launcher, terminal())
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
