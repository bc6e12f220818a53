"""`ctt cancel`: ends the jobs of a sweep, wherever they run; their checkpoints stay."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ctt.core.processes import this_host
from ctt.execution.jobs import event_log, pid_files, spec
from ctt.execution.jobs.failures import Failure
from ctt.execution.jobs.session import LAUNCHER, end_processes
from ctt.execution.launchers import slurm_name
from ctt.execution.slurm import commands
from ctt.store import Store
from ctt.study import record


def cancel_sweep(store: Store, name: str, console: Console, patience: float = 150.0) -> int:
    """Asks the launchers of all records of the sweep to end their jobs, and ends those that have no launcher.

    patience: seconds to wait for the launchers. Exit code 1 if a job still runs.
    """
    records = sorted(record.newest(store, name).parent.glob("[0-9]*/jobs"))
    for jobs in records:
        (jobs / event_log.CANCELLED).touch()
    launchers = [jobs / LAUNCHER for jobs in records]
    for launcher in filter(None, map(pid_files.running, launchers)):
        console.print(f"launcher process {launcher} ends the jobs", highlight=False)
    deadline = time.monotonic() + patience
    while any(map(pid_files.running, launchers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    in_queue = _end_in_queue(store, records, console)
    of_jobs = [pid_file for jobs in records for pid_file in jobs.glob("[0-9]*.pid")]
    ended = end_processes(of_jobs)
    left = {pid for pid_file in of_jobs if (pid := pid_files.running(pid_file))}
    if left:
        console.print(f"[red]{len(left)} jobs still run on this host[/]")
    if elsewhere := _hosts(records) - {this_host()}:
        hosts = ", ".join(sorted(elsewhere))
        console.print(f"jobs were last seen on {hosts}; the launcher there ends them", highlight=False)
    if left or in_queue:
        return 1
    console.print(f"{name} is cancelled{f', {ended} jobs ended' if ended else ''}; the same sweep command continues it")
    return 0


def _hosts(records: Sequence[Path]) -> set[str]:
    """Hosts of jobs that have started and have no recorded end."""
    found = set()
    for jobs in records:
        events = event_log.last(jobs)
        for pid_file in jobs.glob("[0-9]*.pid"):
            if events.get(int(pid_file.stem), {}).get("event") != "ended" and (host := pid_files.host_of(pid_file)):
                found.add(host)
    return found


def _end_in_queue(store: Store, records: Sequence[Path], console: Console) -> bool:
    """Cancels all jobs of this sweep in SLURM, recorded or not, and records their ends; True if some may still be there."""
    last_events = [event_log.last(jobs) for jobs in records]
    of_slurm = [event for last in last_events for event in last.values() if "_" in (event["job_id"] or "")]
    if not of_slurm and not any((jobs.parent / "slurm").is_dir() for jobs in records):
        return False
    name = slurm_name(records[-1], store)
    queue = commands.queued(name)
    if queue is None:
        unfinished = any(event["event"] != "ended" for event in of_slurm)
        if unfinished:
            console.print("[red]SLURM does not answer: its jobs are not cancelled[/]")
        return unfinished
    if queue:
        console.print(f"{len(queue)} SLURM jobs are cancelled: they write their checkpoints and end", highlight=False)
    gone = commands.end_all(name, queue)
    for jobs, last in zip(records, last_events, strict=True):
        _record_ends(store, jobs, {n: e["job_id"] for n, e in last.items() if e["event"] != "ended"}, set(queue))
    if not gone:
        console.print(f"[red]SLURM has not ended them yet; see squeue --name {name}[/]")
    return not gone


def _record_ends(store: Store, jobs: Path, tasks: dict[int, str | None], cancelled: set[str]) -> None:
    """Records why the unfinished jobs of a record have ended: by cancellation, or by the failure in their outcome file.

    tasks: SLURM's id by job number; cancelled: ids that were in the queue. Nothing is recorded of jobs with no known end.
    """
    for job in spec.read(jobs) if tasks else ():
        task, outcome = tasks.get(job.number), job.outcome()
        if task is None or "_" not in task or all(map(store.has, job.wanted)):
            continue
        more = dict(job_id=task, log=str(job.log))
        if task in cancelled:
            event_log.append(jobs, job.number, job.label, job.target, "ended", failure=Failure.CANCELLED, **more)
        elif outcome and outcome["failure"]:
            more |= dict(failure=outcome["failure"], message=outcome["message"])
            event_log.append(jobs, job.number, job.label, job.target, "ended", **more)
