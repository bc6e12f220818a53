"""AdoptedProcess: the process of a job that another launcher started and left running."""

from __future__ import annotations

import signal

from ctt.core.processes import send, started
from ctt.execution.jobs.spec import JobSpec


class AdoptedProcess:
    """Process `pid` of `job`, with the methods of `subprocess.Popen` that a launcher uses."""

    def __init__(self, job: JobSpec, pid: int) -> None:
        self.job, self.pid, self.began = job, pid, started(pid)

    def poll(self) -> int | None:
        """None while it runs, then an exit code after the outcome it recorded: -SIGKILL if there is none."""
        if self.began is not None and started(self.pid) == self.began:
            return None
        outcome = self.job.outcome()
        return -signal.SIGKILL if outcome is None else int(outcome["failure"] is not None)

    def terminate(self) -> None:
        send(self.pid, self.began, signal.SIGTERM)

    def kill(self) -> None:
        send(self.pid, self.began, signal.SIGKILL)
