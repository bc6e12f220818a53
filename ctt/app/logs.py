"""`ctt logs RUN [-f]`: the log of the job of a run, of a shared prefix or of a key."""

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
        matches = {full: job for full, job in by_name.items() if name in (full, full.partition("/")[2])}
        near = [full for full in by_name if name in full] or list(by_name)
        hint = f"; names of jobs: {', '.join(sorted(matches or near)[:8]) or 'none yet'}"
    if len(matches) != 1:
        raise UsageError(f"{name!r} names {len(matches) or 'no'} jobs of the store {store.root}{hint}")
    return next(iter(matches.values()))


def _read(store: Store, job: JobSpec, follow: bool) -> Iterator[str]:
    """The log's text; while following also that of later attempts, which may be another file of the same name."""
    position, identity, decode = 0, None, codecs.getincrementaldecoder("utf-8")("replace")
    for look in itertools.count(1):
        ended = not follow or _ended(store, job)  # asked before reading, so that nothing is missed
        ended = ended or (look % ASK_EVERY == 0 and _abandoned(store, job))
        with contextlib.suppress(FileNotFoundError), open(job.log, "rb") as file:
            stat = os.fstat(file.fileno())
            if (stat.st_dev, stat.st_ino) != identity or stat.st_size < position:
                position, identity = 0, (stat.st_dev, stat.st_ino)
            file.seek(position)
            data = file.read()
            position += len(data)
            yield decode.decode(data)
        if ended:
            return
        time.sleep(LOOK_EVERY)


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
