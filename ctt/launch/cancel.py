"""`ctt cancel`: ends the jobs of a sweep, wherever they run; their checkpoints stay."""

from __future__ import annotations

import time

from rich.console import Console

from ctt.launch import events, frozen
from ctt.launch.queues import slurm_name
from ctt.launch.session import LAUNCHER, end_marked
from ctt.recorded import record
from ctt.store import Store


def cancel_sweep(store: Store, name: str, console: Console, patience: float = 60.0) -> int:
    """Tells the newest record's launcher to end all, and ends what has none. Exit code 1 if something still runs."""
    jobs = record.newest(store, name) / "jobs"
    (jobs / events.CANCELLED).touch()
    if any("_" in (event["job_id"] or "") for event in events.last(jobs).values()):
        from ctt.launch import slurm

        queue = slurm.queued(slurm_name(jobs, store)) or {}
        slurm.cancel(queue)
        console.print(f"{len(queue)} jobs of SLURM cancelled", highlight=False)
    deadline = time.monotonic() + patience
    while frozen.running(jobs / LAUNCHER) is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    marks = [path for path in jobs.glob("*.pid") if path.name != LAUNCHER]
    ended = end_marked(marks)
    left = [mark for mark in marks if frozen.running(mark) is not None]
    elsewhere = sorted({host for mark in marks if (host := frozen.host_of(mark))} - {frozen.this_host()})
    if left:
        console.print(f"[red]{len(left)} jobs still run on this host[/]")
    if elsewhere:
        console.print(f"jobs were last seen on {', '.join(elsewhere)}: their launcher there ends them", highlight=False)
    if not left:
        console.print(f"{name} is cancelled{f', {ended} jobs ended' if ended else ''}; the same sweep continues it")
    return int(bool(left))
