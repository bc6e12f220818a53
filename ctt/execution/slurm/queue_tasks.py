"""Tasks: the jobs that SLURM has, those of the record that is followed, and those that its queue holds besides."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from ctt.core.atomic_files import replacing
from ctt.core.errors import UsageError
from ctt.execution.jobs import event_log, spec
from ctt.execution.jobs.spec import JobSpec
from ctt.execution.slurm import commands


@dataclasses.dataclass
class Task:
    """A job that SLURM has, by the number of its array task ("12_3"), and what the looks at the queue have shown of it."""

    id: str
    waits: bool = False  # submitted to begin when others have succeeded
    state: str = ""
    host: str = ""
    moved: float | None = None  # when it was last seen to get on; None: it does not run
    hung: bool = False
    held: bool = False
    absent: int = 0  # looks in a row at which SLURM did not know it


def earlier(record: Path, name: str) -> Iterator[tuple[str, JobSpec]]:
    """Task and job of what other records of the sweep still have in the queue. Raises UsageError if SLURM does not answer."""
    others = [folder for folder in sorted(record.parent.glob("[0-9]*")) if folder != record]
    queue = commands.surely_queued(name) if others else {}
    for folder in others if queue else ():
        told = event_log.last(folder / "jobs")
        for job in spec.read(folder / "jobs"):
            if (task := told.get(job.number, {}).get("job_id")) in queue:
                yield task, job


def end_strangers(record: Path, name: str) -> None:
    """Cancels arrays of this record that SLURM has taken although sbatch failed, as when the answer came too late: nobody
    knows their numbers. Raises UsageError if SLURM does not answer."""
    known = {(event["job_id"] or "").partition("_")[0] for event in event_log.read(record / "jobs")}
    scripts = commands.scripts(name)
    ours = (record / "slurm").absolute()
    numbers = {
        task.partition("_")[0] for task, script in (scripts or {}).items() if Path(script).parent == ours
    } - known
    if scripts is None or (numbers and commands.ask(["scancel", *sorted(numbers)]) is None):
        raise UsageError("SLURM does not answer: whether it has taken an array is not known")


def link(path: Path, to: Path) -> None:
    """Makes `path` a link to `to`, in place of the one of an earlier attempt."""
    with replacing(path) as temporary:
        temporary.symlink_to(os.path.relpath(to, path.parent))
