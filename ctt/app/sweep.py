"""Running a sweep: compile, record, hand its frozen jobs to a launcher, mirror to MLflow, show the table."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ctt.app.progress import Follower
from ctt.config import Config
from ctt.core.errors import StoreError
from ctt.core.units import duration
from ctt.execution.jobs.session import JobQueue, in_background, interrupted, launcher_of
from ctt.execution.jobs.snapshot import snapshot
from ctt.execution.jobs.spec import freeze
from ctt.execution.launchers import MakeQueue
from ctt.execution.site_defaults import with_site
from ctt.execution.slurm.commands import check_host
from ctt.plan import Budget, Plan, compile_plan, parts
from ctt.plan.tree import merged
from ctt.stages.base import Stage
from ctt.store import Store
from ctt.study import record
from ctt.study.sync_process import syncing
from ctt.sweep import compile_sweep

DONE, INCOMPLETE = 0, 1
SHOWN = 24  # missing runs, each with why


def run_sweep(config: Config, overrides: Sequence[str], make_queue: MakeQueue, console: Console | None = None) -> int:
    """Runs what is missing of the sweep that `overrides` mean, prints its table; 0, or 1 if a run is missing."""
    console = console or Console()
    config = with_site(config, overrides)
    sweep = compile_sweep(config.sweep, overrides, record_as=config.name)
    plan = compile_plan(sweep)
    store = Store.open(config.store)
    check_inputs(plan, store)
    if config.launch.kind == "slurm":
        check_host()
    elif config.launch.detach:
        return detach(store, sweep.name, console)
    cached = [key for key in plan.stages if store.has(key)]
    pending = [job for job in plan.jobs if not job.finished(store.has)]
    finals = {t.key for t in plan.targets}
    missing_runs = [j for j in pending if j.target.key in finals and not store.has(j.target.key)]
    needed = {n for j in missing_runs for n in j.needs}
    pending = [j for j in pending if j.target.key in finals or j.target.key in needed]
    folder = record.write(plan, store, snapshot(store) if pending and config.launch.kind != "inproc" else None)
    console.print(
        f"[bold]{sweep.name}[/]: {len(sweep.points)} points × {len(sweep.seeds)} seeds = {len(finals)} runs, "
        f"{len(plan.stages)} stages ({len(cached)} cached), {plan.world_model_epochs} world-model epochs "
        f"instead of {Budget(plan).naive_epochs}; store {store.root}",
        soft_wrap=True,
    )
    for line in merged(plan):
        console.print(line, soft_wrap=True)
    jobs = [freeze(job, store, folder / "jobs", number) for number, job in enumerate(pending)]
    queue = make_queue(config, plan, store, jobs) if jobs else None
    if queue and config.launch.detach:
        return submit(queue, sweep.name, console)
    code = carry_out(config, plan, store, folder, queue, console)
    if code == INCOMPLETE:
        console.print("The same command runs what is missing, and only that:")
        console.print(f"  {continuing(config, overrides)}", soft_wrap=True, highlight=False, markup=False)
    return code


def carry_out(config: Config, plan: Plan, store: Store, folder: Path, queue: JobQueue | None, console: Console) -> int:
    """Runs the queue of the record in `folder` if there is one; mirrors it, prints its table; 0, or 1 if a run is missing."""
    began = time.time()
    with syncing(folder, config.tracking) as publish:
        if queue:
            try:
                with Follower(plan, store, console, queue.most).follow(), launcher_of(folder / "jobs"):
                    queue.run()
            except KeyboardInterrupt as error:
                interrupted(queue, folder / "jobs", error)
                raise
            console.print(f"{len(queue.jobs)} jobs in {duration(time.time() - began)}")
        if any(store.has(target.key) for target in plan.targets):
            from ctt.study.report_files import show_report  # pandas and matplotlib: not while jobs are followed

            publish(show_report(plan, store, console))
    return INCOMPLETE if print_missing(plan, store, console) else DONE


def detach(store: Store, name: str, console: Console) -> int:
    """Starts the same command in a session of its own; returns when its record is there."""
    parent = store.sweeps_folder(name)
    before = set(parent.glob("[0-9]*/record.json"))
    log = parent / "detached.log"
    process = in_background(["-m", "ctt", *sys.argv[1:], "launch.detach=false"], log)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if set(parent.glob("[0-9]*/record.json")) - before:
            break
        time.sleep(0.1)
    if process.poll():
        raise StoreError(f"the detached sweep ended with exit code {process.returncode}; see {log}")
    console.print(f"{name} runs as process {process.pid}; it prints to {log}", soft_wrap=True, highlight=False)
    console.print(f"ctt status {name} · ctt logs RUN -f · ctt cancel {name}", highlight=False)
    return DONE


def submit(queue: JobQueue, name: str, console: Console) -> int:
    """Submits all jobs to SLURM and leaves them to it."""
    queue.submit()
    console.print(f"{name} is submitted; the same command follows it, and runs what SLURM loses", highlight=False)
    more = f"ctt status {name} · ctt logs RUN -f · ctt cancel {name} · ctt report {name} · ctt sync"
    console.print(more, highlight=False, soft_wrap=True)
    return DONE


def continuing(config: Config, overrides: Sequence[str]) -> str:
    """The command that runs what is missing."""
    words = [word for word in overrides if not word.startswith(("sweep=", "launch.detach="))]
    start = ["ctt", "sweep", config.sweep] if config.sweep else ["ctt", "-m"]
    return shlex.join([*start, *words])


def print_missing(plan: Plan, store: Store, console: Console) -> bool:
    """Prints which runs, and stages beside them, are missing and why; whether any is."""
    missing = [(run, t) for run, t in zip(plan.sweep.runs, plan.targets, strict=True) if not store.has(t.key)]
    if missing:
        console.print(f"[red]{len(missing)} of {len(plan.targets)} runs are missing:[/]")
        for run, target in missing[:SHOWN]:
            console.print(f"  {run.name}: {why_missing(plan, store, target)}", soft_wrap=True, markup=False)
        if len(missing) > SHOWN:
            console.print(f"  … and {len(missing) - SHOWN} more; `ctt status {plan.sweep.name}` tells of their jobs")
    beside = missing_auxiliaries(plan, store)
    if beside:
        console.print(f"[yellow]{len(beside)} stages beside the runs are missing, their accuracies are complete:[/]")
        for line in beside:
            console.print(f"  {line}", soft_wrap=True, markup=False)
    return bool(missing or beside)


def missing_auxiliaries(plan: Plan, store: Store) -> list[str]:
    """A line for each stage beside a finished run that is not in the store: which run's, which, and why."""
    lines = []
    for run, target, auxiliaries in zip(plan.sweep.runs, plan.targets, plan.auxiliaries, strict=True):
        for auxiliary in auxiliaries if store.has(target.key) else ():
            if not store.has(auxiliary.key):
                lines.append(f"{run.name}: {first_failure(store, [*auxiliary.inputs().values(), auxiliary])}")
    return lines


def check_inputs(plan: Plan, store: Store) -> None:
    """Raises DataError before any work if the files of a real data set are not there."""
    for stage in plan.stages.values():
        if stage.kind == "data" and not store.has(stage.key):
            check = getattr(stage, "check", None)
            if check is not None:
                check()


def why_missing(plan: Plan, store: Store, target: Any) -> str:
    """The recorded failure of the first stage that stopped a run, or that it has not run yet."""
    return first_failure(store, parts(target))


def first_failure(store: Store, stages: Sequence[Stage]) -> str:
    """The recorded failure of the first of `stages` that is missing and has one, or that they have not run yet."""
    for stage in stages:
        failures = store.failures(stage.key)
        if failures and not store.has(stage.key):
            last = failures[-1]
            return f"{stage.kind} {last['failure']}: {last['message']}"
    return "not run yet"
