"""The process of a SLURM array task: it runs one job, stops it when SLURM asks, and requeues itself.

    python -m ctt.execution.slurm.task_process JOBS_FOLDER 0-3,7      task 4 of the array is job 7

SLURM sends SIGUSR2 some time before the time limit, and SIGTERM to a job it preempts or cancels. The stage then writes its
checkpoint, and the task requeues itself if it has made progress since it last did so; a cancelled task ends.
A task that only waits for what another sweep builds requeues itself too, and frees its node meanwhile.
Exit code 0 means that the target is in the store; after any other the job is FAILED, and its dependents do not start.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from ctt.core.atomic_files import write_json
from ctt.core.build_context import stop_on_signals
from ctt.execution.jobs import job_process
from ctt.execution.jobs.failures import Failure
from ctt.execution.jobs.retries import reached
from ctt.execution.slurm import commands
from ctt.store import Store

SIGNALS = (signal.SIGUSR2, signal.SIGTERM)
PATIENCE = 600.0  # seconds for which a task holds its node while another process builds what it needs
UNANSWERED = 600.0  # seconds for which a call to SLURM is retried; the task often ends sooner
STATE = "ctt-state:"
UNWANTED = ("", "CANCELLED", "COMPLETING", "COMPLETED", "TIMEOUT")


def main(arguments: list[str]) -> int:
    """Runs the task; its exit code."""
    job_process.begin()
    folder, numbers = arguments
    number = expanded(numbers)[int(os.environ["SLURM_ARRAY_TASK_ID"])]
    received = _remember_signals()
    path = Path(folder) / f"{number:04d}.json"
    outcome = job_process.run(path, _stop_if_waiting(PATIENCE))
    if outcome["failure"] is None:
        for late in SIGNALS:  # Python drops its handlers before it exits: a late signal would make this a failure
            signal.signal(late, signal.SIG_IGN)
        return 0
    if outcome["failure"] == Failure.INTERRUPTED and received and _wanted():
        return _requeue(path, outcome, received)
    return 1


def _remember_signals() -> list[int]:
    """From now on the signals ask stages to stop; returns the list to which they are appended."""
    stop_on_signals(*SIGNALS)
    received: list[int] = []
    for number in SIGNALS:
        stop = signal.getsignal(number)
        assert callable(stop)
        signal.signal(number, partial(_record_signal, received, stop))
    return received


def _record_signal(received: list[int], stop: Callable[..., Any], number: int, frame: FrameType | None) -> None:
    received.append(number)
    stop(number, frame)


def _stop_if_waiting(patience: float) -> Callable[[str], None]:
    """A listener to events that sends this process SIGTERM, as SLURM would, after `patience` seconds of only waiting."""
    since = math.inf

    def on_event(what: str) -> None:
        nonlocal since
        since = min(since, time.monotonic()) if what == "waiting" else math.inf
        if time.monotonic() - since > patience:
            os.kill(os.getpid(), signal.SIGTERM)

    return on_event


def _requeue(path: Path, outcome: dict[str, Any], received: list[int]) -> int:
    """Requeues the task after its checkpoint, unless it made no progress between two time limits; returns its exit code."""
    content = json.loads(path.read_text(encoding="utf-8"))
    file = path.with_suffix(".reached.json")
    now = list(reached(Store.open(content["store"]), content["stages"]))
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    if received[0] == signal.SIGUSR2 and before is not None and now <= before:
        message = f"no progress within the time limit; raise launch.timeout_min ({outcome['message']})"
        print(f"ctt: {message}", flush=True)
        write_json(path.with_suffix(".outcome.json"), {**outcome, "failure": Failure.TIMEOUT, "message": message})
        return 1
    write_json(file, now)
    path.with_suffix(".outcome.json").unlink(missing_ok=True)
    print("ctt: the checkpoint is written; back into the queue", flush=True)
    received.clear()
    if _answer(["scontrol", "requeue", _own_id()]) is not None:
        end = time.monotonic() + 60
        while not received and time.monotonic() < end:  # SLURM ends the task; if it exits first it may count as failed
            time.sleep(0.05)
    return 1


def _wanted() -> bool:
    """False if SLURM has cancelled this job, or ended it otherwise."""
    answer = _answer(["squeue", "-h", "-j", _own_id(), "-o", f"{STATE}%T"])
    return answer is None or _state_in(answer) not in UNWANTED


def _state_in(answer: str) -> str:
    """The state that squeue has printed after STATE, "" if it has none; other lines are a site's messages."""
    found = re.findall(rf"^{STATE}([A-Z_]+)\s*$", answer, re.MULTILINE)
    return str(found[-1]) if found else ""


def _answer(command: list[str]) -> str | None:
    """The output of one of SLURM's commands, with retries: its controller may be restarting when a time limit comes."""
    end = time.monotonic() + UNANSWERED
    while (answer := commands.ask(command)) is None and time.monotonic() < end:
        time.sleep(min(1.0, UNANSWERED))
    return answer


def _own_id() -> str:
    """SLURM's id of this task; SLURM_JOB_ID is that of the whole array in its last task."""
    return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"


def compressed(numbers: list[int]) -> str:
    """[0, 1, 2, 7] → "0-2,7", in the order given."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{a}-{b}" if b > a else str(a) for a, b in parts)


def expanded(text: str) -> list[int]:
    """The inverse of `compressed`."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


if __name__ == "__main__":
    job_process.exit_process(main(sys.argv[1:]))
