"""The local launcher: jobs are processes of this host, each started when its needs are met and a device is free.

submitit's local executor is not used: it starts all jobs at once with a controller process each, gives all of them the
same devices, and kills a job one second after asking it to end, too soon for a checkpoint.

A job holds one lease for each of its devices (`ctt.execution.local.devices`): GPUs, or CPU cores where there are none. Jobs
without a GPU are copies of a process that has imported what all need (`ctt.execution.local.warm_process`). The
kernel sends it SIGTERM when this process ends, so a killed sweep leaves only checkpoints behind. If the user leaves the
jobs running, `ctt.app.relauncher` adopts them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from ctt.core.errors import UsageError
from ctt.core.resources import JobLimits, LocalSettings
from ctt.core.units import count
from ctt.execution.jobs import event_log, job_process, pid_files
from ctt.execution.jobs.background import start_in_background
from ctt.execution.jobs.dependent_jobs import DependentJobs
from ctt.execution.jobs.failures import Failure
from ctt.execution.jobs.retries import idle
from ctt.execution.jobs.spec import JobSpec
from ctt.execution.launchers import JobState
from ctt.execution.local import devices
from ctt.execution.local.adopted_process import AdoptedProcess
from ctt.execution.local.warm_process import ChildProcess, WarmProcess
from ctt.execution.recorded_jobs import RecordedJobs
from ctt.store import Store

PATIENCE = 30.0  # seconds a job has for its checkpoint
CPU_JOB_GB = 2.0  # memory of a job without a GPU, where launch.mem_gb is null; it bounds how many run at once
POLL = 0.5  # seconds between looks at stages that other processes may have finished


@dataclasses.dataclass
class Running:
    """A job's process. Times are monotonic: when it began, last made progress, and was asked to stop for `reason`."""

    job: JobSpec
    process: subprocess.Popen[bytes] | ChildProcess | AdoptedProcess
    began: float
    progressed: float
    stop_requested: float | None = None
    reason: Failure | None = None
    handle: int | None = None  # a descriptor that becomes readable when the process ends


def job_command(job: JobSpec) -> list[str]:
    """The command of a job's process."""
    return [sys.executable, "-m", "ctt.execution.jobs.job_process", str(job.path)]


@dataclasses.dataclass(frozen=True)
class Programs:
    """What is started: a job's command, and the arguments of Python for the process that follows jobs left running."""

    job: Callable[[JobSpec], list[str]] = job_command
    relauncher: Sequence[str] = ("-m", "ctt.app.relauncher")


class LocalLauncher(DependentJobs):
    """Runs `jobs`, the first ones first. threads: cores of a job where there are no GPUs; done: whether a key is built."""

    settings_class: ClassVar[type[JobLimits]] = LocalSettings
    independent: ClassVar[bool] = False

    def __init__(
        self,
        jobs: Sequence[JobSpec],
        store: Store,
        settings: LocalSettings,
        *,
        device: str = "auto",
        threads: int = 1,
        environment: Mapping[str, str] | None = None,
        programs: Programs = Programs(),
        done: Callable[[str], bool] | None = None,
    ) -> None:
        super().__init__(jobs, store, done)
        self.settings, self.device = settings, device
        self.programs = programs
        self.environment = {**os.environ, **(environment or {})}
        self.threads = max(1, threads)
        self.running: list[Running] = []

    @classmethod
    def check_host(cls, settings: LocalSettings) -> None:
        """Raises UsageError if a job is to have more GPUs than this host has for jobs: it would wait for ever."""
        gpus = devices.gpus(settings.devices)
        if settings.gpus_per_job > max(1, len(gpus)):
            found = f"has {count(len(gpus), 'GPU')} for jobs ({', '.join(gpus)})" if gpus else "has none for jobs"
            where = "launch.devices and CUDA_VISIBLE_DEVICES"
            raise UsageError(f"launch.gpus_per_job={settings.gpus_per_job}, and this host {found}; see {where}, or choose fewer")

    @classmethod
    def of(cls, recorded: RecordedJobs) -> Self:
        """The launcher of a record."""
        settings, device = recorded.settings(LocalSettings), recorded.config.device
        more: Any = dict(device=device, threads=recorded.threads, environment=recorded.environment)
        return cls(recorded.jobs, recorded.store, settings, **more)

    @cached_property
    def gpus(self) -> list[str]:
        return devices.gpus(self.settings.devices) if self.device != "cpu" else []

    @cached_property
    def locks(self) -> list[str]:
        return devices.locks_of(self.gpus) if self.gpus else []

    @cached_property
    def most(self) -> int:
        settings = self.settings
        free = min(devices.cores() // self.threads, devices.memory_gb() / (settings.mem_gb or CPU_JOB_GB))
        most = len(self.gpus) // settings.gpus_per_job if self.gpus else max(1, int(free))
        return max(1, min(most, settings.jobs or most) if self.gpus else settings.jobs or most)

    @cached_property
    def warm(self) -> WarmProcess | None:
        """The process whose copies the jobs are; None if each is started anew."""
        if self.gpus or self.programs.job is not job_command or not WarmProcess.possible():
            return None
        return WarmProcess({**self.environment, **self._devices_of([])})

    def active(self) -> list[JobSpec]:
        """The jobs that run."""
        return [one.job for one in self.running]

    def run(self) -> None:
        """Returns when no job is left that can run. KeyboardInterrupt passes through and leaves the jobs running."""
        try:
            while self.waiting or self.running:
                if (self.folder / event_log.CANCELLED).exists():
                    self.cancel()
                    return
                self._start_ready()
                if not self.running and self.waiting and self.nothing_can_start():
                    return
                self._wait(POLL)
                self._reap()
                self._watch()
        finally:
            if self.warm:
                self.warm.close()

    def submit(self) -> None:
        """Not possible: raises UsageError."""
        raise UsageError("local jobs need a process that starts them; use --detach")

    def states(self) -> Mapping[int, JobState]:
        """Nothing: jobs of this host are found by their pid files."""
        return {}

    def cancel(self) -> bool:
        """Asks every job to write its checkpoint and end; kills those that have not after PATIENCE seconds."""
        self.waiting = []
        for one in self.running:
            self._request_stop(one, Failure.CANCELLED)
        while self.running:
            self._wait(0.2)
            self._reap()
            self._watch()
            self.waiting = []
        return True

    def leave(self) -> str:
        """Starts a process in a session of its own that follows the running jobs and starts those that wait."""
        (self.folder / job_process.LEFT).write_text(str(os.getpid()), encoding="utf-8")
        log = self.folder.parent.parent / "detached.log"
        process = start_in_background([*self.programs.relauncher, str(self.folder)], log, self.environment)
        return f"process {process.pid} starts those that wait and prints to {log}"

    def adopt(self) -> None:
        """Takes over from an earlier launcher of this record: follows its running jobs, and keeps its recorded failures."""
        for job in self.jobs:
            if (pid := pid_files.running(job.pid_file)) is not None:
                self._follow(job, AdoptedProcess(job, pid))
                self.waiting.remove(job)
        self.keep_recorded_failures()

    # Starting

    def _start_ready(self) -> None:
        free = self._free_slots() if self.waiting else 0
        for job in list(self.waiting):
            if free <= 0:
                return
            if all(map(self.done, job.wanted)):
                self.waiting.remove(job)
            elif self.may_start(job):
                if self.warm and not self.warm.ready():
                    return
                lease = self._lease()
                if lease is None:
                    return
                self.waiting.remove(job)
                self._start(job, lease)
                free -= 1

    def _free_slots(self) -> int:
        """How many more jobs may run. `launch.jobs` counts those of the sweep's other records; devices are leased anyway."""
        free = self.most - len(self.running)
        if free > 0 and self.settings.jobs:
            free = min(free, self.settings.jobs - len(self.running) - len(pid_files.of_other_records(self.folder)))
        return free

    def _lease(self) -> devices.DeviceLease | None:
        folder = Path(self.settings.leases)
        if self.gpus:
            return devices.take(folder, "gpu", self.gpus, self.settings.gpus_per_job, self.locks)
        slots = max(devices.cores(), self.most * self.threads)
        return devices.take(folder, "cpu", [str(i) for i in range(slots)], self.threads)

    def _start(self, job: JobSpec, lease: devices.DeviceLease) -> None:
        job.remove_outcome()
        job.pid_file.unlink(missing_ok=True)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the job unblocks it once it ignores it
        try:
            process = self._process(job, lease)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            lease.close()
        pid_files.write_pid_file_of(job.pid_file, process.pid)
        self._follow(job, process)
        self.record_event(job, "started", job_id=str(process.pid))

    def _process(self, job: JobSpec, lease: devices.DeviceLease) -> subprocess.Popen[bytes] | ChildProcess:
        own = {**self._devices_of(lease.names), job_process.PARENT: str(os.getpid())}
        with open(job.log, "ab") as log:
            if self.warm and (child := self.warm.start(job.path, own, log.fileno(), lease.files)):
                return child
            return subprocess.Popen(
                self.programs.job(job),
                env={**self.environment, **own, "CTT_LEASED_FILES": ",".join(map(str, lease.files))},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=lease.files,
            )

    def _devices_of(self, leased: Sequence[str]) -> dict[str, str]:
        """The variables that name a job's GPUs by the numbers of nvidia-smi."""
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(leased) if self.gpus else ""}

    def _follow(self, job: JobSpec, process: subprocess.Popen[bytes] | ChildProcess | AdoptedProcess) -> None:
        now = time.monotonic()
        one = Running(job, process, now, now)
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                one.handle = os.pidfd_open(process.pid)
        self.running.append(one)
        self.attempts.begin(job)

    # Ending

    def _wait(self, seconds: float) -> None:
        """Waits until a job ends, `seconds` at most."""
        handles: list[Any] = [one.handle for one in self.running if one.handle is not None]
        if len(handles) < len(self.running):
            seconds = min(seconds, 0.05)
        handles += self.warm.awaited() if self.warm else []
        select.select(handles, [], [], seconds)

    def _reap(self) -> None:
        for one in list(self.running):
            code = one.process.poll()
            if code is None:
                continue
            self.running.remove(one)
            if one.handle is not None:
                os.close(one.handle)
            self.ended(one.job, str(one.process.pid), code=code, reason=one.reason)

    # Watching

    def _watch(self) -> None:
        """Stops jobs that exceed their time limit or make no progress; kills those that do not end in time."""
        now = time.monotonic()
        for one in self.running:
            if one.stop_requested is not None:
                if now - one.stop_requested > PATIENCE:
                    one.process.kill()
            elif self.settings.timeout_min is not None and now - one.began > 60 * self.settings.timeout_min:
                self._request_stop(one, Failure.TIMEOUT)
            elif self.settings.hang_min is not None and now - one.progressed > 60 * self.settings.hang_min:
                one.progressed = max(one.began, now - idle(self.store, one.job))
                if now - one.progressed > 60 * self.settings.hang_min:
                    self._request_stop(one, Failure.HANG)

    def _request_stop(self, one: Running, reason: Failure) -> None:
        one.stop_requested, one.reason = time.monotonic(), one.reason or reason
        one.process.terminate()
