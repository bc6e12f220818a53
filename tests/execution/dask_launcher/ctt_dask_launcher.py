"""A launcher for jobs of ctt in the worker processes of a cluster of `dask.distributed` that lasts as long as the sweep.

The scheduler's address is written to the record, so that `ctt status` and `ctt cancel` ask the same scheduler.
"""

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import dask
from distributed import Client, Future, LocalCluster, get_worker

from ctt.core.atomic_files import write_json
from ctt.core.errors import UsageError
from ctt.core.resources import JobLimits
from ctt.core.settings import setting
from ctt.execution.jobs.failures import Failure
from ctt.execution.jobs.job_process import PARENT
from ctt.execution.launchers import JobState
from ctt.execution.polling_launcher import PollingLauncher

ADDRESS = "dask.json"
STATES = {"processing": "running", "memory": "ended", "erred": "ended"}  # of dask's tasks; the others wait


@dataclass
class DaskSettings(JobLimits):
    """Settings of the cluster."""

    workers: int = setting(2, "worker processes, each of which runs one job at a time", minimum=1)


def run_job(job_id, command, environment, log):
    """In a worker: runs a job to its end; returns the exit code of its process, which ends with the worker."""
    environment = {**environment, PARENT: str(os.getpid()), "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "")}
    with open(log, "ab") as output:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    running = get_worker().__dict__.setdefault("jobs_of_ctt", {})
    running[job_id] = process
    try:
        return process.wait()
    finally:
        del running[job_id]


def signal_jobs(ids, number, dask_worker):
    """In a worker: sends a signal to those of the jobs that it runs."""
    for job_id, process in list(getattr(dask_worker, "jobs_of_ctt", {}).items()):
        if job_id in ids:
            process.send_signal(number)


def states_of(ids, dask_scheduler):
    """In the scheduler: the states of its tasks, and the workers that process them."""
    tasks = [dask_scheduler.tasks[job_id] for job_id in ids if job_id in dask_scheduler.tasks]
    return {task.key: (task.state, task.processing_on.host if task.processing_on else None) for task in tasks}


class DaskLauncher(PollingLauncher):
    """Jobs as tasks of `dask.distributed`."""

    settings_class = DaskSettings
    poll_s = 0.3

    def __init__(self, recorded):
        super().__init__(recorded)
        self.cluster = None
        self.known = None
        self.futures: dict[str, Future] = {}

    @classmethod
    def check_host(cls, settings):
        """Workers and their jobs get signals."""
        if os.name != "posix":
            raise UsageError("launch=dask needs a POSIX system")

    @property
    def most(self):
        """One job for each worker."""
        return min(self.settings.workers, self.settings.jobs or self.settings.workers)

    def client(self):
        """The client of this record's scheduler, if there is one."""
        if self.known is None:
            try:
                address = json.loads((self.folder / ADDRESS).read_text())["address"]
                self.known = Client(address, timeout=5, set_as_default=False)
            except (OSError, ValueError):
                return None
        return self.known

    def start(self, job):
        """Submits one task; it is not started again by dask, as ctt decides which failures are retried."""
        if self.cluster is None:
            dask.config.set({"distributed.scheduler.allowed-failures": 0})
            more = dict(processes=True, dashboard_address=None, worker_dashboard_address=None, protocol="tcp://")
            self.cluster = LocalCluster(n_workers=self.settings.workers, threads_per_worker=1, **more)
            self.known = Client(self.cluster, set_as_default=False)
            write_json(self.folder / ADDRESS, {"address": self.cluster.scheduler_address})
        job_id = f"ctt-{job.number}-{os.urandom(4).hex()}"
        arguments = (job_id, self.command(job), self.environment, str(Path(job.log).resolve()))
        self.futures[job_id] = self.known.submit(run_job, *arguments, key=job_id, pure=False)
        return job_id

    def look(self, ids):
        """One call to the scheduler; why a task has ended is known to the process that submitted it."""
        client = self.client()
        if client is None:
            return {}
        try:
            states = client.run_on_scheduler(states_of, list(ids))
        except OSError:
            return None
        found = {}
        for job_id, (state, host) in states.items():
            ended = STATES.get(state, "queued") == "ended" and job_id in self.futures
            found[job_id] = self.ending(job_id, state) if ended else JobState(STATES.get(state, "queued"), host)
        return found

    def ending(self, job_id, state):
        """How a task has ended: with the exit code of its job, or with its worker."""
        future = self.futures.pop(job_id)
        if state == "memory":
            return JobState("ended", code=future.result())
        error = future.exception()
        lost = type(error).__name__ == "KilledWorker"
        failure = Failure.NODE_FAILURE if lost else Failure.KILLED
        return JobState("ended", failure=failure, message=str(error).splitlines()[0] if error else state)

    def stop(self, ids):
        """Signals go to the jobs by way of their workers."""
        if client := self.client():
            client.run(signal_jobs, list(ids), signal.SIGTERM)

    def kill(self, ids):
        """As `stop`, but the jobs cannot refuse."""
        if client := self.client():
            client.run(signal_jobs, list(ids), signal.SIGKILL)

    def close(self):
        """Ends the workers and the scheduler, if they are ours."""
        if self.known is not None:
            self.known.close()
        if self.cluster is not None:
            self.cluster.close()
            (self.folder / ADDRESS).unlink(missing_ok=True)
        self.known = self.cluster = None
