"""Tasks: the jobs in SLURM's queue, of the record that is followed and of others."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from ctt.core.atomic_files import replacing
from ctt.core.errors import UsageError
from ctt.execution.jobs import event_log, spec
from ctt.execution.jobs.spec import JobSpec
from ctt.execution.launchers import JobState
from ctt.execution.slurm import commands, reasons


@dataclasses.dataclass
class Task:
    """A submitted job: SLURM's id of its array task ("12_3"), and its last known state."""

    id: str
    waits: bool = False  # it depends on other jobs
    state: str = ""
    host: str = ""
    progressed: float | None = None  # monotonic time of its last known progress; None: it does not run
    hung: bool = False  # cancelled for lack of progress
    held: bool = False  # cancelled because SLURM held it
    absent: int = 0  # number of polls in a row in which SLURM did not list it
    since: float = 0.0  # monotonic time of the first of these


def earlier(record: Path, name: str) -> Iterator[tuple[str, JobSpec]]:
    """Task and job of all that other records of the sweep have in the queue. Raises UsageError if SLURM does not answer."""
    others = [folder for folder in sorted(record.parent.glob("[0-9]*")) if folder != record]
    queue = commands.queued_with_retries(name) if others else {}
    for folder in others if queue else ():
        last = event_log.last(folder / "jobs")
        for job in spec.read(folder / "jobs"):
            if (task := last.get(job.number, {}).get("job_id")) in queue:
                yield task, job


def states(jobs: Path, name: str) -> dict[int, JobState] | None:
    """State by number of a record's jobs that are in the queue; None: SLURM does not answer."""
    tasks = {number: event["job_id"] for number, event in event_log.last(jobs).items() if event["event"] != "ended"}
    queue = commands.queued(name) if tasks else {}
    if queue is None:
        return None
    found = {number: queue[task] for number, task in tasks.items() if task in queue}
    return {
        number: JobState("running", one.host)
        if one.state == "RUNNING"
        else JobState("queued", one.host, message=reasons.message(one.state, one.reason))
        for number, one in found.items()
    }


def unrecorded(record: Path, queue: Collection[str]) -> set[str]:
    """Those of the sweep's jobs in the queue that none of its records has."""
    folders = sorted(record.parent.glob("[0-9]*/jobs")) if queue else ()
    return set(queue) - {event["job_id"] for folder in folders for event in event_log.read(folder)}


def cancel_unrecorded(record: Path, name: str) -> None:
    """Cancels arrays of this record that SLURM accepted although sbatch failed, for example because its answer came too
    late, so that their numbers were not recorded. Raises UsageError if SLURM does not answer."""
    known = {(event["job_id"] or "").partition("_")[0] for event in event_log.read(record / "jobs")}
    scripts = commands.scripts(name)
    ours = (record / "slurm").absolute()
    numbers = {task.partition("_")[0] for task, script in (scripts or {}).items() if Path(script).parent == ours} - known
    if scripts is None or (numbers and commands.ask(["scancel", *sorted(numbers)]) is None):
        raise UsageError("SLURM does not answer, so it is not known whether it accepted an array; try again later")


def link(path: Path, to: Path) -> None:
    """Makes `path` a symbolic link to `to`, replacing an earlier one."""
    with replacing(path) as temporary:
        temporary.symlink_to(os.path.relpath(to, path.parent))
