"""`ctt cancel`: ends the jobs of a sweep, wherever they run; their checkpoints stay."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from ctt.core.errors import CttError
from ctt.core.processes import this_host
from ctt.execution import launchers
from ctt.execution.jobs import event_log, pid_files
from ctt.execution.jobs.session import LAUNCHER, end_processes
from ctt.store import Store
from ctt.study import record


def cancel_sweep(store: Store, name: str, console: Console, patience: float = 150.0) -> int:
    """Asks the launchers of all records of the sweep to end their jobs, and ends those that have no launcher.

    patience: seconds to wait for the launchers. Exit code 1 if a job still runs.
    """
    records = sorted(record.newest(store, name).parent.glob("[0-9]*/jobs"))
    for jobs in records:
        (jobs / event_log.CANCELLED).touch()
    processes = [jobs / LAUNCHER for jobs in records]
    for process in filter(None, map(pid_files.running, processes)):
        console.print(f"launcher process {process} ends the jobs", highlight=False)
    deadline = time.monotonic() + patience
    while any(map(pid_files.running, processes)) and time.monotonic() < deadline:
        time.sleep(0.1)
    in_queue = _end_by_launchers(store, records, console)
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


def _end_by_launchers(store: Store, records: Sequence[Path], console: Console) -> bool:
    """Cancels the jobs that still run or wait in the scheduler of their launcher; True if some may still be there.

    All schedulers are asked first which jobs they have, as records of a sweep can share jobs.
    """
    found, left = [], False
    for jobs in records:
        unfinished = any(event["event"] != "ended" for event in event_log.last(jobs).values())
        try:
            launcher = launchers.of_record(jobs, store)
            launcher.adopt()
            found.append((launcher, jobs))
        except CttError as error:
            if unfinished:
                console.print(f"[red]the jobs of {launchers.name_of(jobs)} are not cancelled[/]: {escape(str(error))}")
            left = left or unfinished
    for launcher, jobs in found:
        if not launcher.cancel():
            console.print(f"[red]{launchers.name_of(jobs)} has not ended all jobs yet[/]; `ctt status` shows which")
            left = True
    return left
