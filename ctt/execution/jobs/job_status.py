"""States of the jobs of a record: from its events and pid files, the store, and one call of its launcher if it has any."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctt.core.errors import CttError
from ctt.execution import launchers
from ctt.execution.jobs import event_log, pid_files, spec
from ctt.execution.jobs.failures import Failure
from ctt.execution.jobs.session import LAUNCHER
from ctt.execution.jobs.spec import JobSpec
from ctt.execution.launchers import JobState
from ctt.store import Store


@dataclasses.dataclass(frozen=True)
class JobStatus:
    """`state`: done, running, queued (by a scheduler), failed (with its class), waiting, not started, lost (no launcher
    follows it), or unknown (submitted to a scheduler that does not answer; `message` names it)."""

    number: int
    label: str
    state: str
    job_id: str | None = None
    host: str | None = None
    failure: str | None = None
    message: str = ""
    log: str | None = None
    rate: float | None = None  # of its current stage, `unit`s per second
    unit: str = ""
    left: float | None = None  # seconds to the end of that stage
    device: str | None = None  # that it runs on

    def as_dict(self) -> dict[str, Any]:
        """For --json, where `failure` is called `class`."""
        values = dataclasses.asdict(self)
        values["class"] = values.pop("failure")
        return values


def job_statuses(store: Store, jobs: Path) -> list[JobStatus]:
    """Status of the jobs in a record's `jobs` folder, by number."""
    last = event_log.last(jobs)
    followed = pid_files.running(jobs / LAUNCHER) is not None
    all_jobs = spec.read(jobs)
    states: Mapping[int, JobState] | None = {}
    unanswered = ""
    if any(event["event"] != "ended" and event["job_id"] for event in last.values()):
        states, unanswered = _ask_launcher(store, jobs, all_jobs)
    found = [_status(store, job, last.get(job.number, {}), states, followed, unanswered) for job in all_jobs]
    for index, job in enumerate(all_jobs):
        if found[index].state == "lost":  # or its artifact is not visible here yet
            store.refresh(job.wanted)
            found[index] = _status(store, job, last.get(job.number, {}), states, followed, unanswered)
    elsewhere = {
        job.target: job for pid_file in pid_files.of_other_records(jobs) for job in [spec.read_one(pid_file.with_suffix(".json"))]
    }
    for index, job in enumerate(all_jobs):
        if found[index].state in ("waiting", "lost", "not started") and (other := elsewhere.get(job.target)):
            event = event_log.last(other.path.parent).get(other.number, {})
            found[index] = dataclasses.replace(_status(store, other, event, {}, True), number=job.number)
    failed = {job.target for job, one in zip(all_jobs, found, strict=True) if one.state == "failed"}
    for index, job in enumerate(all_jobs):
        if found[index].state == "lost" and failed & job.needs:  # the scheduler dropped it while no launcher followed
            found[index] = dataclasses.replace(
                found[index], state="failed", failure=Failure.BLOCKED, message="what it needs has failed"
            )
    return found


def _ask_launcher(store: Store, jobs: Path, all_jobs: Sequence[JobSpec]) -> tuple[Mapping[int, JobState] | None, str]:
    """What the record's launcher knows of its jobs; None, and why, if it does not answer or is not installed any more."""
    name = launchers.name_of(jobs)
    try:
        states = launchers.of_record(jobs, store, all_jobs).states()
    except CttError as error:
        return None, str(error)
    return states, "" if states is not None else f"{name} does not answer on this host"


def _status(
    store: Store,
    job: JobSpec,
    event: dict[str, Any],
    states: Mapping[int, JobState] | None,
    followed: bool,
    unanswered: str = "",
) -> JobStatus:
    task = event.get("job_id")
    known: dict[str, Any] = dict(number=job.number, label=job.label, job_id=task)
    known |= dict(host=event.get("host"), log=event.get("log"))
    if all(map(store.has, job.wanted)):
        return JobStatus(state="done", **known)
    here = pid_files.running(job.pid_file) is not None
    if states is None and task and event["event"] != "ended" and not here:
        return JobStatus(state="unknown", message=unanswered, **known)
    state = (states or {}).get(job.number)
    if state and state.state == "queued":
        return JobStatus(state="queued", message=state.message, **known)
    if here or (state and state.state == "running"):
        known["host"] = (state.host if state else None) or pid_files.host_of(job.pid_file) or known["host"]
        known["device"] = pid_files.device_of(job.pid_file)
        return JobStatus(state="running", **known, **_progress(store, job))
    if event.get("event") == "ended" and event["class"]:
        return JobStatus(state="failed", failure=event["class"], message=event["message"], **known)
    if event.get("event") == "ended":
        return JobStatus(state="done", **known)
    outcome = job.outcome()
    if not followed and task and outcome and outcome["failure"]:
        return JobStatus(state="failed", failure=outcome["failure"], message=outcome["message"], **known)
    return JobStatus(state="waiting" if followed else "lost" if task else "not started", **known)


def _progress(store: Store, job: JobSpec) -> dict[str, Any]:
    """rate, unit, left and message of the stage that a running job builds; {} if unknown."""
    key = pid_files.stage_of(job.pid_file)
    folder = store.unfinished(key) if key else None
    if folder is None:
        return {}
    with contextlib.suppress(OSError, ValueError, KeyError):
        report = spec.progress(folder)
        left = (report["total"] - report["done"]) / report["rate"] if report["rate"] > 0 else None
        message = f"{report['done']:.0f}/{report['total']:.0f} {report['unit']}"
        return dict(rate=round(report["rate"], 3), unit=report["unit"], left=left, message=message)
    return {}


def eta(found: Sequence[JobStatus], jobs: Path) -> float | None:
    """Seconds until the last job ends, if each takes the mean time of those that ended; None if none has."""
    began: dict[int, float] = {}
    took: list[float] = []
    for event in event_log.read(jobs):
        if event["event"] == "started":
            began[event["number"]] = event["time"]
        elif event["event"] == "ended" and event["class"] is None and event["number"] in began:
            took.append(event["time"] - began[event["number"]])
    running = [job for job in found if job.state == "running"]
    if not took or not running:
        return None
    mean = sum(took) / len(took)
    spent = sum(min(mean, time.time() - began.get(job.number, time.time())) for job in running)
    not_begun = sum(job.state in ("waiting", "queued") for job in found)
    return ((len(running) + not_begun) * mean - spent) / len(running)


def due(jobs: Sequence[JobSpec], folder: Path) -> set[str]:
    """The keys that a launcher which follows the jobs in `folder` still builds: those of jobs that have not ended."""
    last = event_log.last(folder)
    return {key for job in jobs if last.get(job.number, {}).get("event") != "ended" for key in job.stages}
