"""`ctt status`: runs × stages of a recorded sweep, and its jobs, from the store and one query to their launcher."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from ctt.app.progress import Follower, StageStatus
from ctt.app.stage_devices import in_words, stage_devices
from ctt.core.errors import CttError
from ctt.core.terminal_console import terminal
from ctt.core.units import duration
from ctt.execution.jobs import spec
from ctt.execution.jobs.job_status import eta, job_statuses, print_jobs
from ctt.planning import Plan, parts
from ctt.store import Store
from ctt.study import record


def print_status(store: Store, name: str | None, as_json: bool) -> int:
    """Prints how far a sweep is, or a line for each sweep; exit code 1 if a run has failed."""
    names = [name] if name else record.names(store)
    console = terminal()
    out: list[dict[str, Any]] = []
    failed = False
    for each in names:
        try:
            folder = record.newest(store, each)
            plan = record.load(folder)
        except CttError as error:
            if name:
                raise
            print(f"ctt: {error}", file=sys.stderr)  # one damaged record does not hide the other sweeps
            failed = True
            continue
        follower = Follower(plan, store, console, None)
        statuses, share = follower.look()
        failed = failed or any(status.state == "failed" for status in statuses.values())
        if as_json:
            about = {"sweep": each, "record": folder.name, "share": round(share, 4)}
            out.append({**about, **_details(store, plan, folder, statuses)})
        elif name:
            follower.began = (folder / "record.json").stat().st_mtime
            console.print(follower.table())
            _print_details(store, plan, folder, statuses, console)
        else:
            done = sum(store.has(target.key) for target in plan.targets)
            console.print(f"{each:20} {done}/{len(plan.targets)} runs done, {share:.0%} of the work", highlight=False)
    if as_json:
        print(json.dumps(out[0] if name else out, indent=1))
    elif not names:
        console.print(f"no sweep is recorded in {store.root}; `ctt sweep demo` records one")
    return int(failed)


def _details(store: Store, plan: Plan, folder: Path, statuses: dict[str, StageStatus]) -> dict[str, Any]:
    """The seconds left, the runs with their stages, and the jobs, for --json."""
    runs = []
    devices = stage_devices(store, plan, spec.read(folder / "jobs"))
    for run, target, auxiliaries in zip(plan.sweep.runs, plan.targets, plan.auxiliaries, strict=True):
        stages = {}
        for stage in parts(target, auxiliaries):
            status = statuses[stage.key]
            stages[stage.kind] = {
                "key": stage.key,
                "state": status.state,
                "share": round(status.share, 4),
                "rate": round(status.rate, 3),
                "message": status.message,
                "device": devices.get(stage.key),
            }
        runs.append({"run": run.name, "point": run.point.label, "seed": run.seed, "stages": stages})
    jobs = job_statuses(store, folder / "jobs")
    return {"eta_seconds": eta(jobs, folder / "jobs"), "runs": runs, "jobs": [job.as_dict() for job in jobs]}


def _print_details(store: Store, plan: Plan, folder: Path, statuses: dict[str, StageStatus], console: Console) -> None:
    """The jobs, the time left, and the failures of stages where no job records them."""
    jobs = job_statuses(store, folder / "jobs")
    print_jobs(jobs, console)
    if (left := eta(jobs, folder / "jobs")) is not None:
        console.print(f"about {duration(left)} left", highlight=False)
    if text := in_words(plan, stage_devices(store, plan, spec.read(folder / "jobs"))):
        console.print(text, highlight=False, markup=False)
    for key, status in statuses.items():
        if status.state == "running" and status.message:
            stage = f"[yellow]warning: {plan.stages[key].label} {key[:12]}[/]"
            console.print(f"{stage} {escape(status.message)}", soft_wrap=True)
    if not any(job.state == "failed" for job in jobs):
        for key, status in statuses.items():
            if status.state == "failed":
                stage = f"[red]{plan.stages[key].kind} {key[:12]}[/]"
                console.print(f"{stage} {escape(status.message)}", soft_wrap=True)
