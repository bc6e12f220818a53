"""`ctt sweep`: compile a sweep, record it, hand its frozen jobs to a launcher, send results to MLflow, show the table."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from ctt.app.progress import Follower
from ctt.config import Config
from ctt.core.disk_space import too_small
from ctt.core.errors import StoreError, UsageError
from ctt.core.exit_codes import ExitCode
from ctt.core.secrets import masked
from ctt.core.terminal_console import terminal
from ctt.core.units import count, duration
from ctt.execution.jobs.background import start_in_background
from ctt.execution.jobs.failures import reason
from ctt.execution.jobs.job_status import due
from ctt.execution.jobs.session import handle_interrupt, launcher_of
from ctt.execution.jobs.snapshot import snapshot
from ctt.execution.jobs.spec import freeze
from ctt.execution.launchers import Launcher, MakeLauncher, check, of_plan
from ctt.execution.site_defaults import with_site
from ctt.planning import Budget, Plan, compile_plan, parts
from ctt.planning.costs import Costs
from ctt.planning.tree import merged
from ctt.stages.base import Stage
from ctt.store import Store
from ctt.store.ownership import check_owner
from ctt.study import record
from ctt.study.sync_process import syncing
from ctt.sweep import Sweep, compile_sweep

if TYPE_CHECKING:  # pandas and matplotlib
    from ctt.study.study import Study

DONE, INCOMPLETE = ExitCode.DONE, ExitCode.FAILED
SHOWN = 24  # missing runs that are listed with their reason


def run_sweep(config: Config, overrides: Sequence[str], make_launcher: MakeLauncher, console: Console | None = None) -> int:
    """Compiles the sweep of `overrides`, runs what is missing and prints its table; 0, or 1 if a run is missing."""
    console = console or terminal()
    config = with_site(config, overrides)
    code = run_compiled(config, compile_sweep(config.sweep, overrides, record_as=config.name), make_launcher, console)
    if code == INCOMPLETE:
        console.print("The same command runs what is missing, and only that:")
        console.print(f"  {command_of(config, overrides)}", soft_wrap=True, no_wrap=True, highlight=False, markup=False)
    return code


def run(
    sweep: Sweep | str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    store: Path | str | None = None,
    console: Console | None = None,
) -> Study:
    """Runs what is missing of a sweep, prints its progress and table as `ctt sweep` does, and returns its study.

    sweep: one that `ctt.compile_sweep` made, or the name or file of one with overrides as on the command line (launch=…,
    tracking=off, seed=0,1). store: a folder; None: the setting `store`. console: where to print; None: standard output.
    A run that fails does not end the others and raises nothing: `missing()` of the study names it. Raises SweepError or
    SettingError before any work, KeyboardInterrupt after a signal; running again continues.

    >>> study = ctt.run("quick", ["launch=local"], store="store")
    >>> study.table
    """
    from ctt.study.study import Study

    if isinstance(sweep, Sweep):
        overrides = [*sweep.overrides, *overrides]
    else:
        sweep = compile_sweep(os.fspath(sweep), overrides)
    config = with_site(sweep.baseline.config, overrides)
    if store is not None:
        config = dataclasses.replace(config, store=os.fspath(store))
    if config.launch.kind == "inproc":
        raise UsageError("launch=inproc runs jobs by Hydra, for `ctt sweep`; from Python choose launch=local or another launcher")
    run_compiled(config, sweep, of_plan, console or terminal())
    return Study(sweep.name, config.store)


def run_compiled(config: Config, sweep: Sweep, make_launcher: MakeLauncher, console: Console) -> int:
    """Runs what is missing of a compiled sweep and prints its table; 0, or 1 if a run is missing. config: where and how."""
    plan = compile_plan(sweep)
    store = Store.open(config.store)
    check_owner(store.root)
    check_inputs(plan.stages.values(), store)
    launcher_class = check(config)
    if config.launch.detach and not launcher_class.independent:
        return detach(store, sweep.name, console)
    cached = [key for key in plan.stages if store.has(key)]
    pending = [job for job in plan.jobs if not job.finished(store.has)]
    targets = {t.key for t in plan.targets}
    missing_runs = [j for j in pending if j.target.key in targets and not store.has(j.target.key)]
    needed = {n for j in missing_runs for n in j.needs}
    pending = [j for j in pending if j.target.key in targets or j.target.key in needed]
    former = record.left_out(store, sweep)
    folder = record.write(plan, store, snapshot(store) if pending and config.launch.kind != "inproc" else None)
    console.print(
        f"[bold]{sweep.name}[/]: {count(len(sweep.points), 'point')} × {count(len(sweep.seeds), 'seed')} = "
        f"{count(len(targets), 'run')}, "
        f"{len(plan.stages)} stages ({len(cached)} cached), {plan.world_model_epochs} world-model epochs "
        f"instead of {Budget(plan).naive_epochs}; store {store.root}",
        soft_wrap=True,
    )
    for line in merged(plan):
        console.print(line, soft_wrap=True)
    if former:
        others = f"{former[0]}{f' and {len(former) - 1} more' if former[1:] else ''}"
        shown = f"tables of {sweep.name} show this command's points and seeds from now on, without {others} of before"
        text = f"{shown}; its runs stay in the store, and name=OTHER keeps both"
        console.print(text, soft_wrap=True, highlight=False, markup=False)
    if (warning := too_small(Budget(plan, cached, Costs(store.root)).disk, store.root)) is not None:
        console.print(f"[yellow]warning: {escape(warning)}[/]", soft_wrap=True, highlight=False)
    jobs = [freeze(job, store, folder / "jobs", number) for number, job in enumerate(pending)]
    launcher = make_launcher(config, plan, store, jobs) if jobs else None
    if launcher and config.launch.detach:
        return submit(launcher, sweep.name, console)
    return carry_out(config, plan, store, folder, launcher, console)


def carry_out(config: Config, plan: Plan, store: Store, folder: Path, launcher: Launcher | None, console: Console) -> int:
    """Runs the jobs of the record in `folder`, sends results to MLflow, prints the table; 0, or 1 if a run is missing."""
    began = time.time()
    with syncing(folder, config.tracking) as publish:
        if launcher:
            try:
                more: Any = dict(weights=record.weights_of(folder, plan), due=partial(due, launcher.jobs, folder / "jobs"))
                with Follower(plan, store, console, launcher.most, **more).follow(), launcher_of(folder / "jobs"):
                    launcher.run()
            except KeyboardInterrupt as error:
                handle_interrupt(launcher, folder / "jobs", error)
                raise
            console.print(f"{len(launcher.jobs)} jobs in {duration(time.time() - began)}")
        if any(store.has(target.key) for target in plan.targets):
            from ctt.study.report_files import show_report  # imports pandas and matplotlib

            publish(show_report(plan, store, console))
    return INCOMPLETE if print_missing(plan, store, console) else DONE


def detach(store: Store, name: str, console: Console) -> int:
    """Starts the same command as a process in its own session; returns when its record has been written."""
    parent = store.sweeps_folder(name)
    before = set(parent.glob("[0-9]*/record.json"))
    log = parent / "detached.log"
    process = start_in_background(["-m", "ctt", *sys.argv[1:], "launch.detach=false"], log)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if set(parent.glob("[0-9]*/record.json")) - before:
            break
        time.sleep(0.1)
    if process.poll():
        raise StoreError(f"the detached sweep ended with exit code {process.returncode}; see {log}")
    console.print(f"{name} runs as process {process.pid}; its log is {log}", soft_wrap=True, highlight=False)
    console.print(f"ctt status {name} · ctt logs RUN -f · ctt cancel {name}", highlight=False)
    return DONE


def submit(launcher: Launcher, name: str, console: Console) -> int:
    """Submits all jobs to a scheduler and returns."""
    launcher.submit()
    console.print(f"{name} is submitted; the same command follows it and resubmits lost jobs", highlight=False)
    more = f"ctt status {name} · ctt logs RUN -f · ctt cancel {name} · ctt report {name} · ctt sync"
    console.print(more, highlight=False, soft_wrap=True)
    return DONE


def command_of(config: Config, overrides: Sequence[str]) -> str:
    """The command that runs what is missing; passwords in addresses are masked."""
    arguments = [override for override in overrides if not override.startswith(("sweep=", "launch.detach="))]
    start = ["ctt", "sweep", config.sweep] if config.sweep else ["ctt", "-m"]
    return masked(shlex.join([*start, *arguments]))


def print_missing(plan: Plan, store: Store, console: Console) -> bool:
    """Prints which runs and auxiliary stages are missing, and why; True if any is."""
    missing = [(run, t) for run, t in zip(plan.sweep.runs, plan.targets, strict=True) if not store.has(t.key)]
    if missing:
        console.print(f"[red]{len(missing)} of {len(plan.targets)} runs are missing:[/]")
        for run, target in missing[:SHOWN]:
            console.print(f"  {run.name}: {first_failure(store, parts(target))}", soft_wrap=True, markup=False)
        if len(missing) > SHOWN:
            console.print(f"  … and {len(missing) - SHOWN} more; `ctt status {plan.sweep.name}` lists their jobs")
    auxiliary = missing_auxiliaries(plan, store)
    if auxiliary:
        console.print(f"[yellow]{len(auxiliary)} auxiliary stages are missing; the accuracies are complete:[/]")
        for line in auxiliary:
            console.print(f"  {line}", soft_wrap=True, markup=False)
    return bool(missing or auxiliary)


def missing_auxiliaries(plan: Plan, store: Store) -> list[str]:
    """A line for each missing auxiliary stage of a finished run: the run, and why it is missing."""
    lines = []
    for run, target, auxiliaries in zip(plan.sweep.runs, plan.targets, plan.auxiliaries, strict=True):
        for auxiliary in auxiliaries if store.has(target.key) else ():
            if not store.has(auxiliary.key):
                lines.append(f"{run.name}: {first_failure(store, [*auxiliary.inputs().values(), auxiliary])}")
    return lines


def check_inputs(stages: Iterable[Stage], store: Store) -> None:
    """Raises DataError before any work if files that stages read are missing, or cannot be used."""
    for stage in stages:
        if not store.has(stage.key):
            check = getattr(stage, "check", None)
            if check is not None:
                check()


def first_failure(store: Store, stages: Sequence[Stage]) -> str:
    """The recorded failure of the first of `stages` that is missing and has one, else "not run yet"."""
    for stage in stages:
        failures = store.failures(stage.key)
        if failures and not store.has(stage.key):
            last = failures[-1]
            return f"{stage.kind} {reason(last['failure'], last['message'])}"
    return "not run yet"
