"""Retry: which failures are tried again, and how often; whether a job gets on."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ctt.core.build_context import CHECKPOINT, PROGRESS, STATE
from ctt.execution.jobs.failures import Failure
from ctt.execution.jobs.pid_files import stage_of
from ctt.execution.jobs.spec import JobSpec
from ctt.store import Store


@dataclass(frozen=True)
class Retry:
    """How often a class is tried again: at most `times` (None: no limit), and at most `fruitless` times in a row in
    which the job got no further."""

    times: int | None
    fruitless: int


NEVER = Retry(0, 0)
RETRIES = {
    Failure.PREEMPTED: Retry(None, 20),
    Failure.NODE_FAILURE: Retry(10, 3),
    Failure.TIMEOUT: Retry(None, 0),  # it continues from its checkpoint while there is progress
    Failure.INTERRUPTED: Retry(None, 2),  # also before it could write anything: while it started
    Failure.KILLED: Retry(3, 1),
    Failure.HANG: Retry(2, 1),
    Failure.CANCELLED: Retry(1, 1),  # one job, and the sweep goes on; `ctt cancel` ends the sweep
    Failure.BLOCKED: NEVER,  # it is asked for again with the job it needs
    Failure.OUT_OF_MEMORY: NEVER,
    Failure.DIVERGED: NEVER,
    Failure.CODE_ERROR: NEVER,
}
FINAL = (Failure.CODE_ERROR, Failure.DIVERGED, Failure.OUT_OF_MEMORY)  # what the jobs that need this one would meet too


@dataclass(frozen=True)
class Attempt:
    """A failed attempt of a job, and whether it got further than all before it."""

    failure: Failure
    progressed: bool


def again(attempts: Sequence[Attempt]) -> bool:
    """Whether the job whose failed attempts these are, the last one last, is to be tried once more."""
    same = [a for a in attempts if a.failure == attempts[-1].failure]
    fruitless = 0
    for attempt in reversed(same):
        if attempt.progressed:
            break
        fruitless += 1
    rule = RETRIES[attempts[-1].failure]
    return (rule.times is None or len(same) <= rule.times) and fruitless <= rule.fruitless


class Attempts:
    """The failed attempts of jobs, and how far each job had got before."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.failed: dict[int, list[Attempt]] = defaultdict(list)
        self.furthest: dict[int, tuple[int, str]] = {}

    def begin(self, job: JobSpec) -> None:
        """Before its first attempt: what it finds done is not its progress."""
        self.furthest.setdefault(job.number, reached(self.store, job.stages))

    def again(self, job: JobSpec, failure: Failure) -> bool:
        """Notes that an attempt has failed; whether the job is to be tried once more."""
        now, before = reached(self.store, job.stages), self.furthest[job.number]
        self.failed[job.number].append(Attempt(failure, now > before))
        self.furthest[job.number] = max(now, before)
        return again(self.failed[job.number])


def reached(store: Store, keys: Iterable[str]) -> tuple[int, str]:
    """How far the work on the stages `keys` is: those that are finished, and the newest checkpoint of the others, or that their
    training is over and what it is for has begun.

    Grows with the work. What a killed job did after its last checkpoint is lost, so it does not count.
    """
    finished, checkpoint = 0, ""
    for key in keys:
        if store.has(key):
            finished += 1
        elif folder := store.unfinished(key):
            names = [p.name for p in (folder / CHECKPOINT).glob("*") if p.suffix != ".tmp"]
            trained = ["trained"] if (folder / STATE).exists() else []  # sorts after all numbers
            checkpoint = max([checkpoint, *names, *trained])
    return finished, checkpoint


def idle(store: Store, job: JobSpec) -> float:
    """Seconds since the job last printed something or told how far it is; infinite if it never did."""
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
