"""Failures: why a job ended without its artifact, classified from all that is known of its end."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ctt.core import disk_space
from ctt.execution.slurm.sacct import Account

KEPT_LINES = 20  # of a failed job's log
_TAIL_BYTES = 64 << 10
BEGINS = "ctt: an attempt begins"
SETUP_FAILED = "ctt: launch.setup failed"
_EARLIER = re.compile(rf"^({BEGINS}.*|slurmstepd.* DUE TO JOB REQUEUE \*\*\*.*)\n", re.MULTILINE)


class Failure(StrEnum):
    """The classes, as they are recorded and shown."""

    TIMEOUT = "timeout"  # it reached its time limit
    PREEMPTED = "preempted"  # SLURM gave its resources to a job of higher priority
    NODE_FAILURE = "node failure"
    OUT_OF_MEMORY = "out of memory"
    CANCELLED = "cancelled"  # by a user
    KILLED = "killed"  # SIGKILL, or it ended without a message: often the kernel, when the host ran out of memory
    INTERRUPTED = "interrupted"  # asked to stop by a signal of unknown origin; it wrote a checkpoint if it could
    NOT_VISIBLE = "not visible"  # it ended well, but its artifact did not appear
    HANG = "hang"  # it ran without progress for too long
    BLOCKED = "blocked"  # it never started, because a job it needs failed or the disk is full
    DISK_FULL = "disk full"  # no space: bytes, inodes or a quota
    DIVERGED = "diverged"
    CODE_ERROR = "code error"


CLASSES = {None, *Failure}
"""What a record of an end may name; None: it succeeded."""


@dataclass(frozen=True)
class Ending:
    """What is known of how a job ended; the rest is None or empty.

    outcome: what the job itself recorded (job_process.run). account: from sacct. code: exit code of its process, negative
    for a signal. error: what submitit raised instead of a result. log: the end of its log. hung: it was ended for lack of
    progress. held: it was cancelled because SLURM could not start it and held it.
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
    """Why a job failed: its class, one sentence, and the last lines of its log."""

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
_TEXTS = (  # messages of slurmstepd, the kernel, torch, Python and submitit, the most reliable first
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
    (re.compile(rf"^{SETUP_FAILED}", re.MULTILINE), Failure.CODE_ERROR),
    (re.compile(r"\*\*\* JOB \S+ ON \S+ CANCELLED AT"), Failure.CANCELLED),
    (re.compile(r"\*\*\* STEP \S+ ON \S+ CANCELLED AT"), Failure.INTERRUPTED),  # no JOB line: sent at preemption
    (re.compile(r"^(\w+\.)*Diverged\b", re.MULTILINE), Failure.DIVERGED),
    (disk_space.TEXT, Failure.DISK_FULL),
)
_STATE_IN_TEXT = re.compile(r"has not produced any output \(state: (\w+)")
_ASKED_TO_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def classify(ending: Ending) -> Failed | None:
    """Why the job failed; None if its own outcome records success."""
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
    quoted = _STATE_IN_TEXT.search(ending.error)
    state = account.state if account else quoted[1] if quoted else ""
    unbegun = account is not None and not account.nodes  # of a job that has begun, SLURM still shows why it once waited
    if state == "CANCELLED" and account and unbegun and account.reason.startswith("Dependency"):
        return Failure.BLOCKED
    if state in _STATES:
        return _STATES[state]
    for text in (ending.log, ending.error):
        for pattern, failure in _TEXTS:
            if pattern.search(text) and (own, failure) != (Failure.KILLED, Failure.INTERRUPTED):
                return failure
    if own is not None:  # KILLED: another process of the job ended, whereupon srun asked this one to stop, too
        return own
    number = _signal(ending)
    code = (account.code if account else 0) or ending.code
    if number == signal.SIGBUS or code == os.EX_IOERR:  # a mapped file that has no blocks; what `job_process` ends with
        return Failure.DISK_FULL
    if number in _ASKED_TO_STOP:
        return Failure.INTERRUPTED
    no_message = not code and not number and (quoted is not None or not ending.error)
    return Failure.KILLED if number == signal.SIGKILL or no_message else Failure.CODE_ERROR


def _signal(ending: Ending) -> int:
    """The signal that ended the job, 0 for none; a shell reports the signal of its child as 128 + number."""
    account = ending.account
    if account and account.signal:
        return account.signal
    code = (account.code if account else 0) or ending.code or 0
    return -code if code < 0 else code - 128 if 128 < code < 160 else 0


def _sentence(failure: Failure, ending: Ending) -> str:
    if setup := re.search(rf"^{SETUP_FAILED}.*", ending.log, re.MULTILINE):
        return setup[0].removeprefix("ctt: ")
    account, number = ending.account, _signal(ending)
    parts = [str(failure)]
    if account:
        parts.append(f"SLURM's job {account.job} is {account.state}" + (f" on {account.nodes}" if account.nodes else ""))
    if number:
        names = {s.value: s.name for s in signal.Signals}
        parts.append(f"ended by {names.get(number, f'signal {number}')}")
    elif code := (account.code if account else 0) or ending.code:
        parts.append(f"exit code {code}")
    return ", ".join(parts)


def reason(failure: str | None, message: str) -> str:
    """A class and its message as one text, in which the class stands once."""
    return message if failure and message.startswith(failure) else ": ".join(filter(None, (failure, message)))


def last_lines(text: str, count: int = KEPT_LINES) -> tuple[str, ...]:
    """The last lines of a log that are not blank; of a line overwritten by "\\r" (progress bars), its last text."""
    lines = (line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n"))
    return tuple(line for line in lines if line)[-count:]


def log_of_failure(logs: Sequence[Path], outcome: Mapping[str, Any] | None) -> Path:
    """Of the logs of a job's processes, by rank, the one that explains its failure: that of the process which recorded
    `outcome`, else the one with the most reliable message, else the first."""
    if outcome is not None and outcome["failure"] != Failure.KILLED:
        return logs[min(int(outcome.get("rank", 0)), len(logs) - 1)]
    tails = [log_tail(log) for log in logs] if len(logs) > 1 else []
    for pattern, _ in _TEXTS:
        for log, tail in zip(logs, tails, strict=False):
            if pattern.search(tail):
                return log
    return logs[0]


def log_tail(path: Path) -> str:
    """The end of what a job's last attempt has written to its log, "" if there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    earlier = list(_EARLIER.finditer(text))
    return text[earlier[-1].end() :] if earlier else text
