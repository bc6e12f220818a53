"""What Hydra runs: one run, a multirun, and the frozen job of a launcher."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ctt.cli.parsing import at_home, checked, report_errors
from ctt.core.error_text import one_line
from ctt.core.errors import UsageError

FLAGS_WITH_VALUE = (
    "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--cfg", "-c", "--info", "-i",
)  # fmt: skip
"""Hydra's options whose value is the next argument."""
SHOWN = ("job", "hydra", "all")
FULL_ERROR = "HYDRA_FULL_ERROR"
"""Environment variable with which Hydra raises errors instead of printing them and ending the process."""


def hydra(arguments: Sequence[str]) -> int:
    """Hands the arguments to Hydra: one run, or with -m a multirun by ctt's sweeper. Returns the exit code."""
    import hydra as hydra_core
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from ctt.config import OPEN, config_root, register

    arguments = [f"++{argument}" if argument.startswith(f"{OPEN}.") else argument for argument in at_home(arguments)]
    overrides, skip = [], False
    for argument in arguments:
        if not skip and not argument.startswith("-"):
            overrides.append(argument)
        skip = argument in FLAGS_WITH_VALUE
    for flag, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if flag in ("--cfg", "-c") and value not in SHOWN:
            raise UsageError(f"{flag} shows one of {', '.join(SHOWN)}, got {value or 'nothing'}")
    checked(overrides)
    if "-h" in arguments or "--help" in arguments:
        arguments = [a for a in arguments if a not in overrides]  # Hydra's help cannot read swept values
    elif "-m" in arguments or "--multirun" in arguments:
        from ctt.sweep import read_overrides

        read_overrides(overrides)
    register()
    outcome: list[int] = []
    try:
        with _as_hydra_reads(arguments):
            hydra_core.main(version_base="1.3", config_path=str(config_root() / "conf"), config_name="config")(
                lambda config: _job(config, outcome)
            )()
    except SystemExit as end:  # raised by ctt's sweeper, and by Hydra for what it refuses
        if isinstance(end.code, str):
            raise
        outcome.append(end.code or 0)
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(f"{one_line(error)} (command line)") from error
    except ValueError as error:  # of flags that Hydra does not take together
        if not _raised_by_hydra(error):
            raise
        raise UsageError(f"{one_line(error)} (command line)") from error
    return outcome[0] if outcome else 0


@contextlib.contextmanager
def _as_hydra_reads(arguments: Sequence[str]) -> Iterator[None]:
    """The arguments as the process's own, and errors raised rather than printed, for the body."""
    argv, full = sys.argv, os.environ.get(FULL_ERROR)
    sys.argv, os.environ[FULL_ERROR] = ["ctt", *arguments], "1"
    try:
        yield
    finally:
        sys.argv = argv
        os.environ.pop(FULL_ERROR)
        os.environ.update({FULL_ERROR: full} if full is not None else {})


def _raised_by_hydra(error: BaseException) -> bool:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and last.tb_frame.f_globals.get("__name__", "").startswith("hydra.")


def _job(config: Any, outcome: list[int]) -> Any:
    """Hydra's task function: a frozen job, or one run from its settings."""
    from ctt.app.run import run_single
    from ctt.config import to_config
    from ctt.core.build_context import stop_on_signals
    from ctt.execution.jobs import job_process
    from ctt.execution.jobs.spec import read_one

    if config.spec:
        stop_on_signals()
        path = Path(config.spec)
        if code := report_errors(lambda: None if read_one(path) else None):
            outcome.append(code)
            return None
        return job_process.run(path)
    outcome.append(report_errors(lambda: run_single(to_config(config))))
    return None
