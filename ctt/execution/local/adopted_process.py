"""AdoptedProcess: the process of a job that is not a child of this one, because the launcher that started it has left it."""

from __future__ import annotations

import signal

from ctt.core.processes import send, started
from ctt.execution.jobs.spec import JobSpec


class AdoptedProcess:
    """Process `pid` of `job`, with what a `subprocess.Popen` has to offer."""

    def __init__(self, job: JobSpec, pid: int) -> None:
        self.job, self.pid, self.began = job, pid, started(pid)

    def poll(self) -> int | None:
        """None while it runs, then what the job recorded of its end as an exit code: -SIGKILL if it could not."""
        if self.began is not None and started(self.pid) == self.began:
            return None
        outcome = self.job.outcome()
        return -signal.SIGKILL if outcome is None else int(outcome["failure"] is not None)

    def terminate(self) -> None:
        send(self.pid, self.began, signal.SIGTERM)

    def kill(self) -> None:
        send(self.pid, self.began, signal.SIGKILL)
