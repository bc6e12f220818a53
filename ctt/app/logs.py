"""`ctt logs RUN [-f]`: what the job of a run, of a shared prefix or of a key has printed, and prints."""

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
from ctt.execution.jobs.job_status import standings
from ctt.execution.jobs.session import LAUNCHER
from ctt.execution.jobs.spec import JobSpec
from ctt.store import Store
from ctt.study import record

LOOK_EVERY = 0.5  # seconds
ASK_EVERY = 10  # looks between questions to SLURM about a job that no launcher follows


def print_log(store: Store, what: str, *, follow: bool, out: TextIO | None = None) -> int:
    """Prints the log of the job meant by `what`; with `follow` goes on until the job has ended. Exit code 1 if it failed."""
    out = out or sys.stdout
    sweep, job = find(store, what)
    last = event_log.last(job.path.parent).get(job.number, {})
    print(f"ctt: {_heading(sweep, job, last)}", file=sys.stderr)
    if not follow and not job.log.exists():
        raise UsageError(f"{sweep}/{job.label} has printed nothing: {_standing(store, job, last)}")
    for text in _read(store, job, follow):
        out.write(text)
        out.flush()
    return int(_state(store, job) in ("failed", "lost"))


def find(store: Store, what: str) -> tuple[str, JobSpec]:
    """The sweep and the job meant by `what`: "demo/baseline seed=0", a shared prefix's label, or the start of a key; of several the
    newest, but one of an earlier record that still runs here, which a later one may wait for.

    A key belongs to the job it is the target of, else to the one that builds it on its way. Raises UsageError.
    """
    found: dict[str, tuple[str, JobSpec]] = {}  # by what it is called; a later record has not every job of the earlier
    wanted: dict[str, tuple[str, JobSpec]] = {}
    on_the_way: dict[str, tuple[str, JobSpec]] = {}
    alive: set[str] = set()
    for sweep in record.names(store):
        for folder in sorted(store.sweeps_folder(sweep).glob("[0-9]*")):
            jobs = spec.read(folder / "jobs")
            running = {job.target for job in jobs if pid_files.running(job.pid_file) is not None}
            jobs = [job for job in jobs if job.target in running or job.target not in alive]
            alive |= running
            for job in jobs:
                found[f"{sweep}/{job.label}"] = (sweep, job)
            wanted |= {key: (sweep, job) for job in jobs for key in job.wanted}
            on_the_way |= {key: (sweep, job) for job in reversed(jobs) for key in job.stages}
    if len(what) >= 4 and not set(what) - set("0123456789abcdef"):
        named = {key: job for key, job in (on_the_way | wanted).items() if key.startswith(what)}
        listed = "; ctt show finds artifacts that no job has made"
    else:
        named = {name: job for name, job in found.items() if what in (name, name.partition("/")[2])}
        near = [name for name in found if what in name] or list(found)
        listed = f"; jobs are called like: {', '.join(sorted(named or near)[:8]) or 'none yet'}"
    if len(named) != 1:
        raise UsageError(f"{what!r} names {len(named) or 'no'} jobs of the store {store.root}{listed}")
    return next(iter(named.values()))


def _read(store: Store, job: JobSpec, follow: bool) -> Iterator[str]:
    """The log's text; while following also that of later attempts, whose log may be another file under the same name."""
    place, identity, decode = 0, None, codecs.getincrementaldecoder("utf-8")("replace")
    for look in itertools.count(1):
        ended = not follow or _ended(store, job)  # asked first: what is written before the end is read after it
        ended = ended or (look % ASK_EVERY == 0 and _abandoned(store, job))
        with contextlib.suppress(FileNotFoundError), open(job.log, "rb") as file:
            stat = os.fstat(file.fileno())
            if (stat.st_dev, stat.st_ino) != identity or stat.st_size < place:
                place, identity = 0, (stat.st_dev, stat.st_ino)
            file.seek(place)
            data = file.read()
            place += len(data)
            yield decode.decode(data)
        if ended:
            return
        time.sleep(LOOK_EVERY)


def _ended(store: Store, job: JobSpec) -> bool:
    last = event_log.last(job.path.parent).get(job.number)
    if last is None:  # launchers that write no events: the job is done when what it is for is there
        return all(store.has(key) for key in job.wanted)
    return last["event"] == "ended"


def _abandoned(store: Store, job: JobSpec) -> bool:
    """Nobody is there to write that it has ended, and it does not run or wait."""
    submitted = job.number in event_log.last(job.path.parent)
    alone = pid_files.running(job.path.parent / LAUNCHER) is None
    return submitted and alone and _state(store, job) in ("done", "failed", "lost")


def _state(store: Store, job: JobSpec) -> str:
    return next(one.state for one in standings(store, job.path.parent) if one.number == job.number)


def _heading(sweep: str, job: JobSpec, last: dict[str, Any]) -> str:
    where = [f"job {last['job_id']}"] if last.get("job_id") else []
    where += [f"on {last['host']}"] if last.get("host") else []
    return f"{sweep}/{job.label}: {' '.join([*where, str(job.log)])}"


def _standing(store: Store, job: JobSpec, last: dict[str, Any]) -> str:
    if last.get("event") == "ended":
        return f"it ended: {last.get('class') or 'done'} {last.get('message', '')}".rstrip()
    missing = [key[:12] for key in job.needs if not store.has(key)]
    if missing:
        return f"it waits for {', '.join(sorted(missing))} (ctt logs takes these, too)"
    return "it has not started; -f waits for it" if last else "jobs in the sweep's own process have no log of their own"
