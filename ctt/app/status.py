"""`ctt status`: runs × stages of a recorded sweep, and its jobs, from the store and one query to their launcher."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from ctt.app.job_lines import SHOWN, print_jobs
from ctt.app.progress import MOST_ROWS, STATES, Follower, StageStatus
from ctt.app.stage_devices import in_words, stage_devices
from ctt.core.errors import CttError, UsageError
from ctt.core.terminal_console import terminal
from ctt.core.units import duration
from ctt.execution.jobs import spec
from ctt.execution.jobs.job_status import JobStatus, eta, job_statuses
from ctt.planning import Plan, parts
from ctt.store import Store
from ctt.study import record


def print_status(store: Store, name: str | None, as_json: bool, only: str | None = None) -> int:
    """Prints how far a sweep is, or a line for each sweep; exit code 1 if a run has failed.

    only: "failed", "running" or "all", which lists all runs and jobs of that kind, through a pager on a terminal; without it
    the lines of a sweep are bounded, whatever its size. Raises UsageError for `only` without a name."""
    if only and not name:
        raise UsageError(f"--{only} lists the runs of one sweep; name it: ctt status NAME --{only}")
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
        jobs = job_statuses(store, folder / "jobs") if name or as_json else []
        follower = Follower(
            plan, store, console, _devices(plan), weights=record.weights_of(folder, plan), due=partial(_due, folder, jobs)
        )
        statuses, share = follower.look()
        failed = failed or any(status.state == "failed" for status in statuses.values())
        left = _left(follower, statuses, jobs, folder)
        if as_json:
            about = {"sweep": each, "record": folder.name, "share": round(share, 4), "eta_seconds": left}
            out.append({**about, **_details(plan, jobs, statuses, stage_devices(store, plan, spec.read(folder / "jobs")))})
        elif name:
            follower.began = (folder / "record.json").stat().st_mtime
            with _paged(console) if only else nullcontext():
                states, most = (STATES, MOST_ROWS) if only is None else ((only,) if only != "all" else STATES, None)
                console.print(follower.table(states, most))
                print_jobs(jobs, console, running=only != "failed", failed=only != "running", every=only is not None)
                if text := in_words(plan, stage_devices(store, plan, spec.read(folder / "jobs"))):
                    console.print(text, highlight=False, markup=False)
                _print_details(plan, jobs, statuses, left, console, only)
        else:
            done = sum(store.has(target.key) for target in plan.targets)
            console.print(f"{each:20} {done}/{len(plan.targets)} runs done, {share:.0%} of the work", highlight=False)
    if as_json:
        print(json.dumps(out[0] if name else out, indent=1))
    elif not names:
        console.print(f"no sweep is recorded in {store.root}; `ctt sweep demo` records one")
    return int(failed)


@contextmanager
def _paged(console: Console) -> Iterator[None]:
    """Shows what the block prints by the user's pager, if there is a terminal."""
    with console.pager() if console.is_terminal else nullcontext():
        yield


def _devices(plan: Plan) -> int | None:
    """How many jobs of the sweep run at once by its settings; None: all that are ready."""
    launch = plan.sweep.baseline.config.launch
    return launch.array_parallelism if launch.kind == "slurm" else launch.jobs


def _due(folder: Path, jobs: Sequence[JobStatus]) -> set[str]:
    """The keys of stages that running and waiting jobs will build, although an attempt may have failed."""
    numbers = {job.number for job in jobs if job.state in ("running", "queued", "waiting", "unknown")}
    return {key for job in spec.read(folder / "jobs") if job.number in numbers for key in job.stages} if numbers else set()


def _left(follower: Follower, statuses: Mapping[str, StageStatus], jobs: Sequence[JobStatus], folder: Path) -> float | None:
    """Seconds to the end: by the jobs that have ended, or while none has, by the store's timings; None if neither is known, or
    nothing is going on."""
    if not any(job.state in ("running", "queued", "waiting") for job in jobs):
        return None
    left = eta(jobs, folder / "jobs")
    return follower.left(dict(statuses)) if left is None else left


def _details(
    plan: Plan, jobs: Sequence[JobStatus], statuses: Mapping[str, StageStatus], devices: Mapping[str, str]
) -> dict[str, Any]:
    """The runs with their stages, and the jobs, for --json."""
    runs = []
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
    return {"runs": runs, "jobs": [job.as_dict() for job in jobs]}


def _print_details(
    plan: Plan,
    jobs: Sequence[JobStatus],
    statuses: Mapping[str, StageStatus],
    left: float | None,
    console: Console,
    only: str | None,
) -> None:
    """The time left, what running stages warn of, and the failures of stages where no job records them."""
    if left is not None:
        console.print(f"about {duration(left)} left", highlight=False)
    most = SHOWN if only is None else None
    warned = [(key, s) for key, s in statuses.items() if s.state == "running" and s.message] if only != "failed" else []
    for key, status in warned[:most]:
        stage = f"[yellow]warning: {plan.stages[key].label} {key[:12]}[/]"
        console.print(f"{stage} {escape(status.message)}", soft_wrap=True)
    alone = only != "running" and not any(job.state == "failed" for job in jobs)
    failed = [(key, status) for key, status in statuses.items() if status.state == "failed"] if alone else []
    for key, status in failed[:most]:
        stage = f"[red]{plan.stages[key].kind} {key[:12]}[/]"
        console.print(f"{stage} {escape(status.message)}", soft_wrap=True)
    for number, what, option in ((len(warned), "warnings", "running"), (len(failed), "failed stages", "failed")):
        if most is not None and number > most:
            console.print(f"and {number - most:,} more {what} (--{option} lists them)", highlight=False)
