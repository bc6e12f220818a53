"""A task of a SLURM array: the frozen job it stands for, stopped and continued as SLURM demands.

    python -m ctt.execution.slurm.task_process JOBS_FOLDER 0-3,7      task 4 of the array is job 7

SLURM sends SIGUSR2 some time before the limit, SIGTERM to what it preempts or cancels. The stage then writes its checkpoint
and the task puts itself back into the queue, if it has got further since it did so last; a job that was cancelled ends.
So does, of itself, a task that waits for what another sweep builds: the node is for others meanwhile.
Exit code 0 means that the target is in the store; for any other SLURM says FAILED, and nothing starts that needs it.
"""

from __future__ import annotations

import json
import math
import os
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
PATIENCE = 600.0  # seconds for which a task holds its node while it waits for what somebody else builds
UNANSWERED = 600.0  # seconds for which it asks a SLURM that does not answer; its own end often comes sooner
UNWANTED = ("", "CANCELLED", "COMPLETING", "COMPLETED", "TIMEOUT")


def main(words: list[str]) -> int:
    """The task's process."""
    job_process.begin()
    folder, numbers = words
    number = expanded(numbers)[int(os.environ["SLURM_ARRAY_TASK_ID"])]
    received = _remember_signals()
    path = Path(folder) / f"{number:04d}.json"
    outcome = job_process.run(path, _give_way(PATIENCE))
    if outcome["failure"] is None:
        for late in SIGNALS:  # Python gives its handlers up before it ends: one of these would make a failure of this
            signal.signal(late, signal.SIG_IGN)
        return 0
    if outcome["failure"] == Failure.INTERRUPTED and received and _wanted():
        return _stopped(path, outcome, received)
    return 1


def _remember_signals() -> list[int]:
    """Lets the signals ask the stages to stop; the list they are put into."""
    stop_on_signals(*SIGNALS)
    received: list[int] = []
    for number in SIGNALS:
        ask = signal.getsignal(number)
        assert callable(ask)

        signal.signal(number, partial(_note, received, ask))
    return received


def _note(received: list[int], ask: Callable[..., Any], number: int, frame: FrameType | None) -> None:
    received.append(number)
    ask(number, frame)


def _give_way(patience: float) -> Callable[[str], None]:
    """Asks this process to stop, as SLURM would, when it has done nothing but wait for `patience` seconds."""
    since = math.inf

    def told(what: str) -> None:
        nonlocal since
        since = min(since, time.monotonic()) if what == "waiting" else math.inf
        if time.monotonic() - since > patience:
            os.kill(os.getpid(), signal.SIGTERM)

    return told


def _stopped(path: Path, outcome: dict[str, Any], received: list[int]) -> int:
    """Requeues the task after its checkpoint, unless a whole time slot has brought it no further."""
    content = json.loads(path.read_text(encoding="utf-8"))
    pid_file = path.with_suffix(".reached.json")
    now = list(reached(Store.open(content["store"]), content["stages"]))
    before = json.loads(pid_file.read_text(encoding="utf-8")) if pid_file.exists() else None
    if received[0] == signal.SIGUSR2 and before is not None and now <= before:
        message = f"a whole time slot brought it no further; raise launch.timeout_min ({outcome['message']})"
        print(f"ctt: {message}", flush=True)
        write_json(path.with_suffix(".outcome.json"), {**outcome, "failure": Failure.TIMEOUT, "message": message})
        return 1
    write_json(pid_file, now)
    path.with_suffix(".outcome.json").unlink(missing_ok=True)
    print("ctt: the checkpoint is written; back into the queue", flush=True)
    received.clear()
    if _answer(["scontrol", "requeue", _own_id()]) is not None:
        end = time.monotonic() + 60
        while not received and time.monotonic() < end:  # SLURM ends us: by ourselves we might count as failed
            time.sleep(0.05)
    return 1


def _wanted() -> bool:
    """False if SLURM says that it has cancelled this job."""
    state = _answer(["squeue", "-h", "-j", _own_id(), "-o", "%T"])
    return state is None or state.strip() not in UNWANTED


def _answer(words: list[str]) -> str | None:
    """What SLURM says, asked again while it says nothing: its controller may be restarted just when a time slot ends."""
    end = time.monotonic() + UNANSWERED
    while (said := commands.ask(words)) is None and time.monotonic() < end:
        time.sleep(min(1.0, UNANSWERED))
    return said


def _own_id() -> str:
    """SLURM's id of this task alone: SLURM_JOB_ID of an array's last task is that of the whole array."""
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
    job_process.leave(main(sys.argv[1:]))
