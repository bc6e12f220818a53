"""Retries: which failures are retried, how often and how soon, and whether a job makes progress."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from ctt.core.build_context import CHECKPOINT, PROGRESS, STATE
from ctt.execution.jobs.failures import Failure
from ctt.execution.jobs.pid_files import stage_of
from ctt.execution.jobs.spec import JobSpec
from ctt.store import Store


@dataclass(frozen=True)
class Retry:
    """How often a class is retried: at most `times` (None: no limit), of which `without_progress` in a row without progress.

    pause: seconds before a retry, twice as many after each further attempt without progress, LONGEST at most.
    """

    times: int | None
    without_progress: int
    pause: float = 0.0


LONGEST = 900.0
NEVER = Retry(0, 0)
RETRIES = {
    Failure.PREEMPTED: Retry(None, 20, 5.0),
    Failure.NODE_FAILURE: Retry(10, 3, 15.0),
    Failure.TIMEOUT: Retry(None, 0),  # retried as long as it makes progress
    Failure.INTERRUPTED: Retry(None, 2, 2.0),  # includes the time before its first checkpoint
    Failure.KILLED: Retry(3, 1, 5.0),
    Failure.HANG: Retry(2, 1, 15.0),
    Failure.NOT_VISIBLE: Retry(2, 2, 15.0),  # one that is visible to the next attempt ends it at once
    Failure.CANCELLED: Retry(1, 1, 5.0),  # of a single job; `ctt cancel` ends the sweep
    Failure.BLOCKED: NEVER,  # submitted again when the job it needs is
    Failure.OUT_OF_MEMORY: NEVER,
    Failure.DISK_FULL: NEVER,  # nothing frees space while the sweep runs
    Failure.DIVERGED: NEVER,
    Failure.CODE_ERROR: NEVER,
}
FINAL = (Failure.CODE_ERROR, Failure.DIVERGED, Failure.OUT_OF_MEMORY, Failure.DISK_FULL)  # jobs that need this one would fail alike


@dataclass(frozen=True)
class Attempt:
    """A failed attempt of a job, and whether it got further than all before it."""

    failure: Failure
    progressed: bool


def should_retry(attempts: Sequence[Attempt]) -> bool:
    """Whether to retry a job after these failed attempts, in order."""
    same = _alike(attempts)
    rule = RETRIES[attempts[-1].failure]
    return (rule.times is None or len(same) <= rule.times) and _in_vain(same) <= rule.without_progress


def pause(attempts: Sequence[Attempt]) -> float:
    """Seconds to wait before the attempt that follows these."""
    first = RETRIES[attempts[-1].failure].pause
    return float(min(LONGEST, first * 2 ** min(20, max(0, _in_vain(_alike(attempts)) - 1))))


def _alike(attempts: Sequence[Attempt]) -> list[Attempt]:
    return [a for a in attempts if a.failure == attempts[-1].failure]


def _in_vain(attempts: Sequence[Attempt]) -> int:
    """How many of the last attempts made no progress."""
    return len(list(takewhile(lambda attempt: not attempt.progressed, reversed(attempts))))


class Attempts:
    """The failed attempts of jobs, the furthest progress of each job, and when it may be retried."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.failed: dict[int, list[Attempt]] = defaultdict(list)
        self.furthest: dict[int, tuple[int, str]] = {}
        self._due: dict[int, float] = {}  # monotonic

    def recall(self, events: Iterable[Mapping[str, Any]], numbers: Mapping[int, int] | None = None) -> None:
        """Counts the attempts in the events of a record that another launcher has followed. numbers: of another record than
        the one that is followed, its jobs and what they are called here."""
        for event in events:
            number = event["number"] if numbers is None else numbers.get(event["number"])
            if event["event"] == "retried" and number is not None:
                attempts = self.failed[number]
                attempts.append(Attempt(Failure(event["class"]), event.get("progressed", True)))
                self._wait(number, min(pause(attempts), event["time"] + pause(attempts) - time.time()))

    def paused(self, job: JobSpec) -> bool:
        """Whether it is too early to retry the job."""
        return time.monotonic() < self._due.get(job.number, 0.0)

    def _wait(self, number: int, seconds: float) -> None:
        self._due[number] = time.monotonic() + seconds

    def begin(self, job: JobSpec) -> None:
        """Call before the first attempt: what is already done does not count as the job's progress."""
        self.furthest.setdefault(job.number, reached(self.store, job.stages))

    def retry_after(self, job: JobSpec, failure: Failure) -> bool:
        """Records a failed attempt; whether to retry the job."""
        now, before = reached(self.store, job.stages), self.furthest[job.number]
        self.failed[job.number].append(Attempt(failure, now > before))
        self.furthest[job.number] = max(now, before)
        self._wait(job.number, pause(self.failed[job.number]))
        return should_retry(self.failed[job.number])

    def progressed(self, job: JobSpec) -> bool:
        """Whether its last failed attempt made progress."""
        return self.failed[job.number][-1].progressed


def reached(store: Store, keys: Iterable[str]) -> tuple[int, str]:
    """Progress of the stages `keys`: how many are finished, and the newest checkpoint of the others, or "trained".

    It grows with the work. What a killed job did after its last checkpoint is lost and does not count.
    """
    finished, checkpoint = 0, ""
    for key in keys:
        if store.has(key):
            finished += 1
        elif folder := store.unfinished(key):
            names = [p.name for p in (folder / CHECKPOINT).glob("*") if p.suffix != ".tmp"]
            trained = ["trained"] if (folder / STATE).exists() else []  # sorts after all checkpoints
            checkpoint = max([checkpoint, *names, *trained])
    return finished, checkpoint


def idle(store: Store, job: JobSpec) -> float:
    """Seconds since the job last printed something or reported progress; infinite if it never did."""
    paths = [job.log]
    key = stage_of(job.pid_file)
    folder = store.unfinished(key) if key else None
    if folder is not None:
        paths.append(folder / PROGRESS)
    times = [float("-inf")]
    for path in paths:
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    return time.time() - max(times)
