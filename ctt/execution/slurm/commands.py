"""Cluster: SLURM's commands on this host, and what they answer: one question for all jobs, whatever their number."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence

from ctt.core.errors import UsageError
from ctt.execution.slurm import accounting

ASK_SECONDS = 60  # one question to SLURM
PROGRAMS = ("sbatch", "srun", "squeue", "scancel")
HELD = "REQUEUE_HOLD"
_HELD_BY_SLURM = re.compile("launch.failed.requeued.held|JobHoldMaxRequeue", re.IGNORECASE)
PAUSES = (0.0, 2.0, 5.0, 10.0, 20.0)  # seconds before each time SLURM is asked what has to be known


def check_host() -> None:
    """Raises UsageError where SLURM's commands are missing."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        raise UsageError(
            f"launch=slurm needs a host that submits to a cluster: {', '.join(missing)} not on PATH; "
            "launch=local runs the jobs on this host"
        )


def ask(words: Sequence[str]) -> str | None:
    """What one of SLURM's commands says; None if it could not be asked, which passes."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=ASK_SECONDS, env=plain_environment())
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def plain_environment() -> dict[str, str]:
    """The environment without what SLURM says of a job this process may run in: it would be taken for options."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_")) or k == "SLURM_CONF"}


def queued(name: str) -> dict[str, tuple[str, str]] | None:
    """SLURM's id → (state, nodes) of the jobs called `name` that wait or run, by one call; None: no answer.

    One that SLURM holds, because it could not start it, is PENDING for SLURM and HELD here: without somebody it stays so.
    """
    rows = _rows(name, "%i|%T|%r|%N")
    if rows is None:
        return None
    return {task: (HELD if _HELD_BY_SLURM.search(why) else state, host) for task, state, why, host in rows}


def surely_queued(name: str) -> dict[str, tuple[str, str]]:
    """As `queued`, asked again where there is no answer. Raises UsageError if there never is one."""
    for pause in PAUSES:
        time.sleep(pause)
        if (found := queued(name)) is not None:
            return found
    raise UsageError(f"SLURM does not say which jobs called {name} it has (squeue); try again when it answers")


def scripts(name: str) -> dict[str, str] | None:
    """The batch files of the same jobs, by SLURM's id; None: no answer."""
    rows = _rows(name, "%i|%o")
    return None if rows is None else dict(rows)


def _rows(name: str, columns: str) -> list[list[str]] | None:
    text = ask(["squeue", "-h", "-r", "-u", getpass.getuser(), "-n", name, "-o", columns])
    if text is None:
        return None
    count = columns.count("|")
    return [line.strip().split("|") for line in text.splitlines() if line.count("|") == count]


def longest_array() -> int:
    """How many tasks an array of this cluster may have."""
    said = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask(["scontrol", "show", "config"]) or "", re.MULTILINE)
    return max(1, int(said[1])) if said else 1001  # SLURM's default


def accounted(tasks: Iterable[str]) -> dict[str, accounting.Account]:
    """What the accounting says of these tasks, by one call for all; empty where there is no accounting."""
    arrays = sorted({task.partition("_")[0] for task in tasks})
    text = ask(accounting.command(arrays)) if arrays else None
    return accounting.read(text) if text else {}


def end_all(name: str, tasks: Iterable[str], patience: float = 120.0) -> bool:
    """Cancels these jobs called `name` and waits until they have ended, each has its time for a checkpoint; whether all did."""
    left = set(tasks)
    for some in _chunks(sorted(left), 200):
        ask(["scancel", *some])
    end = time.monotonic() + patience
    while left and time.monotonic() < end:
        time.sleep(0.5)
        if (queue := queued(name)) is not None:
            left &= queue.keys()
    return not left


def _chunks(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(values), size):
        yield values[first : first + size]
