"""`ctt logs NAME [-f]`: the log of the job of a run, of a shared prefix or of a key; or those of all jobs of a sweep."""

from __future__ import annotations

import codecs
import contextlib
import itertools
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

from ctt.core.errors import UsageError
from ctt.execution.jobs import event_log, pid_files, spec
from ctt.execution.jobs.job_status import job_statuses
from ctt.execution.jobs.session import LAUNCHER
from ctt.execution.jobs.spec import JobSpec
from ctt.store import Store
from ctt.study import record
from ctt.sweep import run_name

LOOK_EVERY = 0.5  # seconds
ASK_EVERY = 10  # reads of the log between queries to a launcher about a job without a launcher


def print_log(store: Store, name: str, *, follow: bool, out: TextIO | None = None) -> int:
    """Prints the log of the job `name`; with `follow` until the job has ended. Exit code 1 if it failed."""
    out = out or sys.stdout
    sweep, job = find_job(store, name)
    last = event_log.last(job.path.parent).get(job.number, {})
    print(f"ctt: {_heading(sweep, job, last)}", file=sys.stderr)
    if not follow and not job.log.exists():
        raise UsageError(f"{sweep}/{job.label} has printed nothing: {_status_text(store, job, last)}")
    for text in _read(store, job, follow):
        out.write(text)
        out.flush()
    return int(_state(store, job) in ("failed", "lost"))


def find_job(store: Store, name: str) -> tuple[str, JobSpec]:
    """The sweep and the job of a run ("demo/baseline seed=0"), of a shared prefix's label, or of the first letters of a key.

    Of several records the newest counts, unless an earlier one's job still runs on this host: a later job may wait for it.
    A key belongs to the job whose target it is, else to the one that builds it on the way. Raises UsageError.
    """
    by_name: dict[str, tuple[str, JobSpec]] = {}  # a later record need not have all jobs of an earlier one
    targets: dict[str, tuple[str, JobSpec]] = {}
    intermediate: dict[str, tuple[str, JobSpec]] = {}
    alive: set[str] = set()
    for sweep in record.names(store):
        for folder in sorted(store.sweeps_folder(sweep).glob("[0-9]*")):
            jobs = spec.read(folder / "jobs")
            running = {job.target for job in jobs if pid_files.running(job.pid_file) is not None}
            jobs = [job for job in jobs if job.target in running or job.target not in alive]
            alive |= running
            by_name |= {f"{sweep}/{job.label}": (sweep, job) for job in jobs}
            targets |= {key: (sweep, job) for job in jobs for key in job.wanted}
            intermediate |= {key: (sweep, job) for job in reversed(jobs) for key in job.stages}
    if len(name) >= 4 and not set(name) - set("0123456789abcdef"):
        matches = {key: job for key, job in (intermediate | targets).items() if key.startswith(name)}
        hint = "; ctt show finds artifacts that no job has made"
    else:
        wanted = run_name(name)
        matches = {full: job for full, job in by_name.items() if wanted in (full, full.partition("/")[2])}
        near = [full for full in by_name if name in full] or list(by_name)
        hint = f"; names of jobs: {', '.join(sorted(matches or near)[:8]) or 'none yet'}"
    if len(matches) != 1:
        raise UsageError(f"{name!r} names {len(matches) or 'no'} jobs of the store {store.root}{hint}")
    return next(iter(matches.values()))


def print_logs(store: Store, sweep: str, *, follow: bool, out: TextIO | None = None) -> int:
    """Prints the logs of the sweep's newest jobs, each under its name; with `follow` what is new until all have ended.

    Exit code 1 if one failed. Raises UsageError if there is none.
    """
    out = out or sys.stdout
    jobs = _newest_jobs(store, sweep)
    logs = {job.number: _Log(job) for job in jobs}
    ended: set[int] = set()
    shown: JobSpec | None = None
    for look in itertools.count(1):
        ended |= {job.number for job in jobs if job.number not in ended and _over(store, job, follow, look)}
        for job in jobs:
            if text := logs[job.number].read():
                lines = f"==> {sweep}/{job.label}: {job.log} <==\n" if job is not shown else ""
                out.write(f"\n{lines}" if lines and shown else lines)
                out.write(text)
                out.flush()
                shown = job
        if len(ended) == len(jobs):
            break
        time.sleep(LOOK_EVERY)
    if shown is None:
        last = event_log.last(jobs[0].path.parent).get(jobs[0].number, {})
        raise UsageError(f"the jobs of {sweep} have printed nothing: {_status_text(store, jobs[0], last)}")
    return int(any(one.state in ("failed", "lost") for one in job_statuses(store, jobs[0].path.parent)))


def _newest_jobs(store: Store, sweep: str) -> list[JobSpec]:
    """The jobs of the newest record that has any. Raises UsageError if none has."""
    for folder in sorted(store.sweeps_folder(sweep).glob("[0-9]*"), reverse=True):
        if jobs := spec.read(folder / "jobs"):
            return list(jobs)
    raise UsageError(f"{sweep} had nothing to run: all of it was in the store {store.root}")


class _Log:
    """A job's log, which may grow; a later attempt may write another file of the same name."""

    def __init__(self, job: JobSpec) -> None:
        self.path = job.log
        self.position, self.identity = 0, (0, 0)
        self.decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def read(self) -> str:
        """What is new in it."""
        with contextlib.suppress(FileNotFoundError), open(self.path, "rb") as file:
            stat = os.fstat(file.fileno())
            if (stat.st_dev, stat.st_ino) != self.identity or stat.st_size < self.position:
                self.position, self.identity = 0, (stat.st_dev, stat.st_ino)
            file.seek(self.position)
            data = file.read()
            self.position += len(data)
            return self.decode(data)
        return ""


def _read(store: Store, job: JobSpec, follow: bool) -> Iterator[str]:
    """The log's text; while following also that of later attempts."""
    log = _Log(job)
    for look in itertools.count(1):
        over = _over(store, job, follow, look)  # asked before reading, so that nothing is missed
        yield log.read()
        if over:
            return
        time.sleep(LOOK_EVERY)


def _over(store: Store, job: JobSpec, follow: bool, look: int) -> bool:
    """True if nothing more is to be read."""
    return not follow or _ended(store, job) or (look % ASK_EVERY == 0 and _abandoned(store, job))


def _ended(store: Store, job: JobSpec) -> bool:
    last = event_log.last(job.path.parent).get(job.number)
    if last is None:  # the launcher writes no events: the job has ended when its artifacts are in the store
        return all(store.has(key) for key in job.wanted)
    return bool(last["event"] == "ended")


def _abandoned(store: Store, job: JobSpec) -> bool:
    """True if the job neither runs nor waits and no launcher is left to record its end."""
    submitted = job.number in event_log.last(job.path.parent)
    alone = pid_files.running(job.path.parent / LAUNCHER) is None
    return submitted and alone and _state(store, job) in ("done", "failed", "lost")


def _state(store: Store, job: JobSpec) -> str:
    return next(one.state for one in job_statuses(store, job.path.parent) if one.number == job.number)


def _heading(sweep: str, job: JobSpec, last: dict[str, Any]) -> str:
    where = [f"job {last['job_id']}"] if last.get("job_id") else []
    where += [f"on {last['host']}"] if last.get("host") else []
    return f"{sweep}/{job.label}: {' '.join([*where, str(job.log)])}"


def _status_text(store: Store, job: JobSpec, last: dict[str, Any]) -> str:
    if last.get("event") == "ended":
        return f"it ended: {last.get('class') or 'done'} {last.get('message', '')}".rstrip()
    missing = [key[:12] for key in job.needs if not store.has(key)]
    if missing:
        return f"it waits for {', '.join(sorted(missing))} (ctt logs accepts these keys)"
    return "it has not started; -f waits for it" if last else "jobs in the process of the sweep have no separate log"
