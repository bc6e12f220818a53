"""SLURM's commands on this host and their output: one call for all jobs, whatever their number."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ctt.core.errors import UsageError
from ctt.execution.slurm import sacct

TIMEOUT = 60  # seconds of one command
PROGRAMS = ("sbatch", "srun", "squeue", "scancel")
OPTIONS = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_")
_TASK = re.compile(r"\d+(_\d+)?")
HELD = "REQUEUE_HOLD"
_HELD_BY_SLURM = re.compile("launch.failed.requeued.held|JobHoldMaxRequeue", re.IGNORECASE)
PAUSES = (0.0, 2.0, 5.0, 10.0, 20.0)  # seconds before each attempt to get an answer that is needed


def check_host() -> None:
    """Raises UsageError if SLURM's commands are missing."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        raise UsageError(
            f"launch=slurm needs SLURM's commands, but {', '.join(missing)} not on PATH; use a login node of the cluster, "
            "or launch=local to run the jobs on this host"
        )


def ask(command: Sequence[str]) -> str | None:
    """The output of one of SLURM's commands; None if it failed or did not answer, which may be temporary."""
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=TIMEOUT, env=plain_environment()
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def plain_environment() -> dict[str, str]:
    """The environment without variables that act as options of SLURM's commands: those of the job that this process may run
    in, and a user's filters (SQUEUE_STATES …), which would hide jobs."""
    return {k: v for k, v in os.environ.items() if not k.startswith(OPTIONS) or k == "SLURM_CONF"}


class QueueEntry(NamedTuple):
    """A job in the queue: its state, its nodes, and why it waits."""

    state: str
    host: str
    reason: str = ""


def queued(name: str) -> dict[str, QueueEntry] | None:
    """SLURM's id → entry of the queued and running jobs called `name`, by one call; None: no answer.

    A job that SLURM holds because it could not start it is PENDING in SLURM and HELD here: it would wait forever.
    """
    rows = _rows(name, "%i|%T|%N|%r")
    if rows is None:
        return None
    return {task: QueueEntry(HELD if _HELD_BY_SLURM.search(why) else state, host, why) for task, state, host, why in rows}


def queued_with_retries(name: str) -> dict[str, QueueEntry]:
    """As `queued`, with retries. Raises UsageError if SLURM never answers."""
    for pause in PAUSES:
        time.sleep(pause)
        if (found := queued(name)) is not None:
            return found
    raise UsageError(f"squeue --name {name} does not answer; try again when SLURM does")


def scripts(name: str) -> dict[str, str] | None:
    """SLURM's id → batch file of the jobs called `name`; None: no answer."""
    rows = _rows(name, "%i|%o")
    return None if rows is None else dict(rows)


def _rows(name: str, columns: str) -> list[list[str]] | None:
    """squeue's rows; the last of the columns may hold any text. Lines that do not begin with a job are a site's messages."""
    text = ask(["squeue", "-h", "-r", "-u", str(os.getuid()), "-n", name, "-o", columns])
    if text is None:
        return None
    count = columns.count("|")
    rows = [line.strip().split("|", count) for line in text.splitlines()]
    return [row for row in rows if len(row) == count + 1 and _TASK.fullmatch(row[0])]


def longest_array() -> int:
    """How many tasks an array of this cluster may have."""
    size = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask(["scontrol", "show", "config"]) or "", re.MULTILINE)
    return max(1, int(size[1])) if size else 1001  # SLURM's default


def accounted(tasks: Iterable[str]) -> dict[str, sacct.Account]:
    """Accounts of these tasks, by one call; empty if there is no accounting."""
    arrays = sorted({task.partition("_")[0] for task in tasks})
    text = ask(sacct.command(arrays)) if arrays else None
    return sacct.read(text) if text else {}


def end_all(name: str, tasks: Iterable[str], patience: float = 120.0) -> bool:
    """Cancels these jobs called `name` and waits while they write their checkpoints; whether all have ended."""
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
