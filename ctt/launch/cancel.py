"""`ctt cancel`: ends the jobs of a sweep, wherever they run; their checkpoints stay."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from ctt.launch import cluster, events, frozen, marks
from ctt.launch.failures import Failure
from ctt.launch.queues import slurm_name
from ctt.launch.session import LAUNCHER, end_marked
from ctt.recorded import record
from ctt.store import Store


def cancel_sweep(store: Store, name: str, console: Console, patience: float = 150.0) -> int:
    """Tells the newest record's launcher to end all, and ends what has none. Exit code 1 if something still runs."""
    jobs = record.newest(store, name) / "jobs"
    (jobs / events.CANCELLED).touch()
    launcher = marks.running(jobs / LAUNCHER)
    if launcher is not None:
        console.print(f"process {launcher} ends the jobs", highlight=False)
    deadline = time.monotonic() + patience
    while marks.running(jobs / LAUNCHER) is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    in_queue = _end_in_queue(store, jobs, console)
    marked = [path for path in jobs.glob("*.pid") if path.name != LAUNCHER]
    ended = end_marked(marked)
    left = [mark for mark in marked if marks.running(mark) is not None]
    elsewhere = sorted({host for mark in marked if (host := marks.host_of(mark))} - {marks.this_host()})
    if left:
        console.print(f"[red]{len(left)} jobs still run on this host[/]")
    if elsewhere:
        console.print(f"jobs were last seen on {', '.join(elsewhere)}: their launcher there ends them", highlight=False)
    if left or in_queue:
        return 1
    console.print(f"{name} is cancelled{f', {ended} jobs ended' if ended else ''}; the same sweep continues it")
    return 0


def _end_in_queue(store: Store, jobs: Path, console: Console) -> bool:
    """Ends the jobs that SLURM has of this record, and writes that down; whether some may still be there."""
    told = events.last(jobs)
    alive = {n: e["job_id"] for n, e in told.items() if e["event"] != "ended" and "_" in (e["job_id"] or "")}
    if not alive:
        return False
    name = slurm_name(jobs, store)
    queue = cluster.queued(name)
    if queue is None:
        console.print("[red]SLURM does not answer: its jobs are not cancelled[/]")
        return True
    tasks = set(alive.values()) & queue.keys()
    console.print(f"{len(tasks)} jobs of SLURM are cancelled: they write their checkpoints and end", highlight=False)
    gone = cluster.end_all(name, tasks)
    for job in frozen.read(jobs):
        if job.number in alive and not all(map(store.has, job.wanted)):
            more = dict(job_id=alive[job.number], log=str(job.log), failure=Failure.CANCELLED)
            events.append(jobs, job.number, job.label, job.target, "ended", **more)
    if not gone:
        console.print(f"[red]SLURM has not ended them yet; see squeue --name {name}[/]")
    return not gone
