"""Failure: why a job ended without its artifact, told from whatever is known of its end."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ctt.execution.slurm.accounting import Account

KEPT_LINES = 20  # of a failed job's log
_TAIL_BYTES = 64 << 10
BEGINS = "ctt: an attempt begins"
_EARLIER = re.compile(rf"^({BEGINS}.*|slurmstepd.* DUE TO JOB REQUEUE \*\*\*.*)\n", re.MULTILINE)


class Failure(StrEnum):
    """The classes, as they are recorded and shown."""

    TIMEOUT = "timeout"  # its time limit came
    PREEMPTED = "preempted"  # another job took its place
    NODE_FAILURE = "node failure"
    OUT_OF_MEMORY = "out of memory"
    CANCELLED = "cancelled"  # by somebody, from outside
    KILLED = "killed"  # SIGKILL, or gone without a word: often the kernel, when the host's memory ran out
    INTERRUPTED = "interrupted"  # asked to stop by a signal of unknown origin; it wrote a checkpoint if it could
    HANG = "hang"  # alive, but nothing moved for too long
    BLOCKED = "blocked"  # never began, because a job it needs failed
    DIVERGED = "diverged"
    CODE_ERROR = "code error"


@dataclass(frozen=True)
class Ending:
    """What is known of how a job ended; the rest is None or empty.

    outcome: what the job itself returned (record.run_frozen). code: of its process, negative for a signal. error: what
    submitit raised instead of a result. log: the end of its log. hung: ended because nothing moved. held: ended because
    SLURM could not start it and held it.
    """

    outcome: Mapping[str, Any] | None = None
    account: Account | None = None
    code: int | None = None
    error: str = ""
    log: str = ""
    hung: bool = False
    held: bool = False


@dataclass(frozen=True)
class Failed:
    """A class, one sentence, and the last lines of the log."""

    failure: Failure
    message: str
    lines: tuple[str, ...]


_STATES = {
    "TIMEOUT": Failure.TIMEOUT,
    "DEADLINE": Failure.TIMEOUT,
    "PREEMPTED": Failure.PREEMPTED,
    "NODE_FAIL": Failure.NODE_FAILURE,
    "BOOT_FAIL": Failure.NODE_FAILURE,
    "LAUNCH_FAILED": Failure.NODE_FAILURE,
    "OUT_OF_MEMORY": Failure.OUT_OF_MEMORY,
    "CANCELLED": Failure.CANCELLED,
    "REVOKED": Failure.CANCELLED,
}
_TEXTS = (  # what slurmstepd, the kernel, torch, Python and submitit write, the surest first
    (re.compile(r"CANCELLED AT .* DUE TO TIME LIMIT|because: timed-out"), Failure.TIMEOUT),
    (re.compile(r"CANCELLED AT .* DUE TO PREEMPTION"), Failure.PREEMPTED),
    (re.compile(r"CANCELLED AT .* DUE TO NODE FAILURE"), Failure.NODE_FAILURE),
    (
        re.compile(
            r"oom[-_ ]kill|^(\w+\.)*(OutOfMemoryError|MemoryError)\b|CUDA out of memory|std::bad_alloc"
            r"|(can't|cannot) allocate memory",
            re.IGNORECASE | re.MULTILINE,
        ),
        Failure.OUT_OF_MEMORY,
    ),
    (re.compile(r"\*\*\* JOB \S+ ON \S+ CANCELLED AT"), Failure.CANCELLED),
    (re.compile(r"\*\*\* STEP \S+ ON \S+ CANCELLED AT"), Failure.INTERRUPTED),  # alone: of the signal that makes room
    (re.compile(r"^(\w+\.)*Diverged\b", re.MULTILINE), Failure.DIVERGED),
)
_STATE_IN_TEXT = re.compile(r"has not produced any output \(state: (\w+)")
_ASKED_TO_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def classify(ending: Ending) -> Failed | None:
    """Why the job failed; None if by its own word it did not."""
    outcome = ending.outcome
    if outcome is not None and not outcome.get("failure"):
        return None
    failure = _failure(ending)
    message = str(outcome.get("message", "")) if outcome else ""
    return Failed(failure, message or _sentence(failure, ending), last_lines(ending.log or ending.error))


def _failure(ending: Ending) -> Failure:
    own = Failure(ending.outcome["failure"]) if ending.outcome else None
    if own not in (None, Failure.INTERRUPTED, Failure.KILLED):
        return own
    if ending.hung:
        return Failure.HANG
    if ending.held:
        return Failure.NODE_FAILURE
    account = ending.account
    said = _STATE_IN_TEXT.search(ending.error)
    state = account.state if account else said[1] if said else ""
    unbegun = account is not None and not account.nodes  # SLURM keeps the reason of a job's waiting when it has begun
    if state == "CANCELLED" and account and unbegun and account.reason.startswith("Dependency"):
        return Failure.BLOCKED
    if state in _STATES:
        return _STATES[state]
    for text in (ending.log, ending.error):
        for pattern, failure in _TEXTS:
            if pattern.search(text) and (own, failure) != (Failure.KILLED, Failure.INTERRUPTED):
                return failure
    if own is not None:  # KILLED: it lost another process of the job, whose end made srun ask it to stop, too
        return own
    number = _signal(ending)
    if number in _ASKED_TO_STOP:
        return Failure.INTERRUPTED
    code = (account.code if account else 0) or ending.code
    wordless = not code and not number and (said is not None or not ending.error)
    return Failure.KILLED if number == signal.SIGKILL or wordless else Failure.CODE_ERROR


def _signal(ending: Ending) -> int:
    """The signal that ended the job, 0 for none; a shell reports one of its child as 128 + number."""
    account = ending.account
    if account and account.signal:
        return account.signal
    code = (account.code if account else 0) or ending.code or 0
    return -code if code < 0 else code - 128 if 128 < code < 160 else 0


def _sentence(failure: Failure, ending: Ending) -> str:
    account, number = ending.account, _signal(ending)
    parts = [str(failure)]
    if account:
        parts.append(
            f"SLURM's job {account.job} is {account.state}" + (f" on {account.nodes}" if account.nodes else "")
        )
    if number:
        names = {s.value: s.name for s in signal.Signals}
        parts.append(f"ended by {names.get(number, f'signal {number}')}")
    elif code := (account.code if account else 0) or ending.code:
        parts.append(f"exit code {code}")
    return ", ".join(parts)


def last_lines(text: str, count: int = KEPT_LINES) -> tuple[str, ...]:
    """The last lines of a log that say something; of a line that was written over (bars), what stood there last."""
    lines = (line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n"))
    return tuple(line for line in lines if line)[-count:]


def telling(logs: Sequence[Path], outcome: Mapping[str, Any] | None) -> Path:
    """Of what a job's processes printed, by rank, that which tells why it failed: of the process whose word `outcome` is,
    or where somebody else wrote the surest sign; else the first one's."""
    if outcome is not None and outcome["failure"] != Failure.KILLED:
        return logs[min(outcome.get("rank", 0), len(logs) - 1)]
    tails = [log_tail(log) for log in logs] if len(logs) > 1 else []
    for pattern, _ in _TEXTS:
        for log, tail in zip(logs, tails, strict=False):
            if pattern.search(tail):
                return log
    return logs[0]


def log_tail(path: Path) -> str:
    """The end of what a job's last attempt has put into its log file, "" if there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    earlier = list(_EARLIER.finditer(text))
    return text[earlier[-1].end() :] if earlier else text
