"""What is handed to Hydra: one run, a multirun, and the frozen job of a launcher."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctt.cli.parsing import checked, report_errors


def hydra(arguments: Sequence[str]) -> int:
    """Hands the words to Hydra: one run, or with -m a multirun by ctt's sweeper."""
    import hydra as hydra_core

    from ctt.config import config_root, register

    flags_with_value = (
        "--package",
        "-p",
        "--config-path",
        "-cp",
        "--config-name",
        "-cn",
        "--config-dir",
        "-cd",
        "--cfg",
        "-c",
        "--info",
        "-i",
    )
    overrides, skip = [], False
    for word in arguments:
        if not skip and not word.startswith("-"):
            overrides.append(word)
        skip = word in flags_with_value
    checked(overrides)
    if "-h" in arguments or "--help" in arguments:
        arguments = [word for word in arguments if word not in overrides]  # Hydra's help can't read values of a sweep
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
    except SystemExit as end:  # ctt's sweeper, and Hydra where it refuses, end the process with their exit code
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
