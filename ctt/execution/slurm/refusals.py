"""Refusals: submissions that SLURM does not accept. Each reason is reported once and then counted; the next attempt waits."""

from __future__ import annotations

import re
import time

from ctt.core.errors import UsageError
from ctt.core.units import count

LONGEST = 60.0  # seconds between two attempts
LONGEST_AT_LIMIT = 30.0  # where only the number of jobs is too large


class SubmitLimitReached(UsageError):
    """SLURM accepts no more jobs of this user for now (a limit like MaxSubmitJobs); a smaller array may be accepted."""


class Refusals:
    """The refused submissions of one launcher. first: seconds before the second attempt, twice as many before each further one.

    in_a_row: refusals since the last acceptance that no limit explains.
    """

    def __init__(self, first: float) -> None:
        self.first, self.in_a_row = first, 0
        self._reported: set[str] = set()
        self._count = 0  # since the last acceptance
        self._until = 0.0  # monotonic
        self._alive = 0  # jobs in the queue at the last refusal

    def refused(self, error: UsageError, alive: int) -> list[str]:
        """The lines to print of a submission that was refused while so many jobs were in the queue."""
        limit = isinstance(error, SubmitLimitReached)
        self.in_a_row = 0 if limit else self.in_a_row + 1
        if limit and alive > self._alive:  # some were accepted before the limit
            self._count = 0
        self._count, self._alive = self._count + 1, alive
        longest = LONGEST_AT_LIMIT if limit else LONGEST
        self._until = time.monotonic() + min(longest, self.first * 2 ** min(20, self._count - 1))
        reason = re.sub(r"\d+", "", str(error))
        if reason in self._reported:
            return []
        self._reported.add(reason)
        return [f"{error}; tried again, further refusals are counted"]

    def accepted(self) -> list[str]:
        """The line to print when a submission was accepted after several refusals."""
        refusals, self._count, self.in_a_row = self._count, 0, 0
        return [f"SLURM accepts jobs again, after {count(refusals, 'refusal')}"] if refusals > 1 else []

    def wait(self, alive: int) -> bool:
        """Whether it is too early for the next attempt; not if a job has left the queue since the last one."""
        return time.monotonic() < self._until and alive >= self._alive
