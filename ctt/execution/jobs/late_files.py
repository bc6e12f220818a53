"""Late files: what a job has written on another host may not be visible on this one yet.

Clients of NFS cache directories, 30 to 60 s by default. A job that has ended well and whose artifact is not visible is awaited, as
is the outcome of one that has ended with the exit code of a recorded failure: neither was killed, and neither is run again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable

from ctt.execution.jobs.failures import Failure
from ctt.execution.jobs.spec import JobSpec
from ctt.store import Store

RECORDED = 1  # the exit code of a job that has recorded why it failed


class LateFiles:
    """The jobs that have ended and whose files are awaited, each for `delay` seconds at most. done: whether a key is built."""

    def __init__(self, store: Store, delay: float, done: Callable[[str], bool] | None = None) -> None:
        self.store, self.delay, self.done = store, delay, done or store.has
        self._since: dict[int, float] = {}

    def refresh(self, jobs: Iterable[JobSpec]) -> None:
        """Opens the folders in which files of these jobs are to appear: a client of NFS then asks its server for their entries."""
        ended = list(jobs)
        self.store.refresh(key for job in ended for key in job.wanted)
        for folder in {job.path.parent for job in ended}:
            with contextlib.suppress(OSError):
                os.listdir(folder)

    def awaited(self, job: JobSpec, code: int | None) -> bool:
        """Whether files of this job, whose process has ended with exit code `code` (None: unknown), are still to come."""
        outcome = job.outcome()
        if code == 0 or (code is None and outcome is not None and not outcome["failure"]):
            expected = (job.target,) if outcome and outcome.get("beside") else job.wanted
            missing = not all(map(self.done, expected))
        else:
            missing = code == RECORDED and outcome is None
        if not missing:
            self._since.pop(job.number, None)
            return False
        now = time.monotonic()
        if now - self._since.setdefault(job.number, now) < self.delay:
            return True
        del self._since[job.number]
        return False


def not_visible(store: Store) -> tuple[Failure, str]:
    """Class and message of a job that has ended well, and whose artifact has not appeared."""
    where = f"the job has ended well, but its artifact has not appeared in {store.root}"
    return Failure.NOT_VISIBLE, f"{where}; see launch.fs_delay_s and the mount options of that file system"
