"""Orphan: the process of a job that is not a child of this one, because the launcher that started it has left it to itself."""

from __future__ import annotations

import contextlib
import os
import signal

from ctt.execution.jobs import pid_files
from ctt.execution.jobs.spec import JobSpec


class AdoptedProcess:
    """Process `pid` of `job`, with what a `subprocess.Popen` has to offer."""

    def __init__(self, job: JobSpec, pid: int) -> None:
        self.job, self.pid, self.began = job, pid, pid_files.started(pid)

    def poll(self) -> int | None:
        """None while it runs, then what the job wrote down of its end as an exit code: -SIGKILL if it could not."""
        if pid_files.started(self.pid) == self.began != "gone":
            return None
        said = self.job.outcome()
        return -signal.SIGKILL if said is None else int(said["failure"] is not None)

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
