"""What Hydra runs: one run, a multirun, and the frozen job of a launcher."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctt.cli.parsing import checked, report_errors

FLAGS_WITH_VALUE = (
    "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--cfg", "-c", "--info", "-i",
)  # fmt: skip
"""Hydra's options whose value is the next argument."""


def hydra(arguments: Sequence[str]) -> int:
    """Hands the arguments to Hydra: one run, or with -m a multirun by ctt's sweeper. Returns the exit code."""
    import hydra as hydra_core

    from ctt.config import OPEN, config_root, register

    arguments = [f"++{argument}" if argument.startswith(f"{OPEN}.") else argument for argument in arguments]
    overrides, skip = [], False
    for argument in arguments:
        if not skip and not argument.startswith("-"):
            overrides.append(argument)
        skip = argument in FLAGS_WITH_VALUE
    checked(overrides)
    if "-h" in arguments or "--help" in arguments:
        arguments = [a for a in arguments if a not in overrides]  # Hydra's help cannot read swept values
    if "-m" in arguments or "--multirun" in arguments:
        from ctt.sweep import read_overrides

        read_overrides(overrides)
    register()
    before = sys.argv
    sys.argv = ["ctt", *arguments]
    outcome: list[int] = []

    def job(config: Any) -> Any:
        return _job(config, outcome)

    try:
        hydra_core.main(version_base="1.3", config_path=str(config_root() / "conf"), config_name="config")(job)()
    except SystemExit as end:  # raised by ctt's sweeper, and by Hydra for what it refuses
        if isinstance(end.code, str):
            raise
        outcome.append(end.code or 0)
    finally:
        sys.argv = before
    return outcome[0] if outcome else 0


def _job(config: Any, outcome: list[int]) -> Any:
    """Hydra's task function: a frozen job, or one run from its settings."""
    from ctt.app.run import run_single
    from ctt.config import to_config
    from ctt.core.build_context import stop_on_signals
    from ctt.execution.jobs import job_process

    if config.spec:
        stop_on_signals()
        return job_process.run(Path(config.spec))
    outcome.append(report_errors(lambda: run_single(to_config(config))))
    return None
