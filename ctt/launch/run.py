"""Running a sweep: compile, record, hand its frozen jobs to a launcher, mirror to MLflow, show the table."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ctt.config import Config
from ctt.job import stopping
from ctt.launch import record
from ctt.launch.follow import Follower, duration
from ctt.launch.frozen import Frozen, freeze
from ctt.launch.local import Local
from ctt.plan import Plan, compile_plan, parts
from ctt.stages.base import Stage
from ctt.store import Store
from ctt.sweep import compile_sweep

Launch = Callable[[Sequence[Sequence[str]], int], Sequence[Any]]  # Hydra's Launcher.launch
Runner = Callable[[Config, Plan, Store, Sequence[Frozen]], None]  # runs frozen jobs, those that others need first
DONE, INCOMPLETE = 0, 1


def run_sweep(config: Config, overrides: Sequence[str], runner: Runner, console: Console | None = None) -> int:
    """Runs what is missing of the sweep that `overrides` mean, prints its table; 0, or 1 if a run is missing."""
    console = console or Console()
    sweep = compile_sweep(config.sweep, overrides, record_as=config.name)
    plan = compile_plan(sweep)
    store = Store.open(config.store)
    check_inputs(plan, store)
    folder = record.write(plan, store)
    cached = [key for key in plan.stages if store.has(key)]
    summary = plan.summary(cached)
    pending = [job for job in plan.jobs if not job.finished(store.has)]
    finals = {t.key for t in plan.targets}
    missing_runs = [j for j in pending if j.target.key in finals and not store.has(j.target.key)]
    needed = {n for j in missing_runs for n in j.needs}
    pending = [j for j in pending if j.target.key in finals or j.target.key in needed]
    console.print(
        f"[bold]{sweep.name}[/]: {summary['unique_points']} points × {len(sweep.seeds)} seeds = {summary['unique_runs']} runs, "
        f"{len(plan.stages)} stages ({len(cached)} cached), {summary['world_model_epochs']} world-model epochs "
        f"instead of {summary['world_model_epochs_naive']}; store {store.root}",
        soft_wrap=True,
    )
    for merged in sweep.merged:
        console.print(f"merged into {merged.into}: {merged.values} ({merged.reason})", soft_wrap=True)
    began = time.time()
    from ctt.launch.report import show_report

    with syncing(config, plan, store) as publish:
        if pending:
            jobs = [freeze(job, store, folder / "jobs", number) for number, job in enumerate(pending)]
            follower = Follower(plan, store, console, config.launch.jobs)
            with follower.follow():
                runner(config, plan, store, jobs)
            console.print(f"{len(pending)} jobs in {duration(time.time() - began)}")
        publish(show_report(plan, store, console))
    missing = [run.name for run, t in zip(sweep.runs, plan.targets, strict=True) if not store.has(t.key)]
    if missing:
        console.print(f"[red]{len(missing)} of {len(plan.targets)} runs are missing:[/]")
        for run, target in zip(sweep.runs, plan.targets, strict=True):
            if not store.has(target.key):
                console.print(f"  {run.name}: {why_missing(plan, store, target)}", soft_wrap=True)
    beside = missing_sides(plan, store)
    if beside:
        console.print(f"[yellow]{len(beside)} stages beside the runs are missing, their accuracies are complete:[/]")
        for line in beside:
            console.print(f"  {line}", soft_wrap=True)
    if missing or beside:
        console.print("The same command runs what is missing, and only that.")
        return INCOMPLETE
    return DONE


def missing_sides(plan: Plan, store: Store) -> list[str]:
    """A line for each stage beside a finished run that is not in the store: which run's, which, and why."""
    lines = []
    for run, target, sides in zip(plan.sweep.runs, plan.targets, plan.sides, strict=True):
        for side in sides if store.has(target.key) else ():
            if not store.has(side.key):
                lines.append(f"{run.name}: {first_failure(store, [*side.inputs().values(), side])}")
    return lines


def check_inputs(plan: Plan, store: Store) -> None:
    """Raises DataError before any work if the files of a real data set are not there."""
    for stage in plan.stages.values():
        if stage.kind == "data" and not store.has(stage.key):
            check = getattr(stage, "check", None)
            if check is not None:
                check()


def run_local(config: Config, plan: Plan, store: Store, jobs: Sequence[Frozen]) -> None:
    """Jobs as processes of this host; ends when none is left. On Ctrl-C they write their checkpoints and end."""
    threads = max(stage.execution()["threads"] for stage in plan.stages.values())
    queue = Local(jobs, store, config.launch, device=config.device, threads=threads)
    with sigterm_as_interrupt():
        try:
            queue.run()
        except KeyboardInterrupt:
            print(f"\nctt: {len(queue.running)} jobs write their checkpoints and end", file=sys.stderr)
            queue.cancel()
            raise


def run_waves(launch: Launch, config: Config, plan: Plan, store: Store, jobs: Sequence[Frozen]) -> None:
    """Waves of jobs for Hydra's other launchers, which start a list of jobs and wait for all."""
    number = {job.target: job for job in jobs}
    pending = [job for job in plan.jobs if job.target.key in number]
    for wave in plan.waves(pending, config.launch.jobs, store.has):
        todo = [number[job.target.key] for job in wave if not job.finished(store.has)]
        if not todo:
            continue
        with _quiet_launcher():
            results = launch([[f"spec={_quoted(job.path)}"] for job in todo], todo[0].number)
        for result in results:
            _ = result.return_value  # raises what the job raised, if the launcher let it through
        if stopping():  # jobs in this process have taken the signal
            raise KeyboardInterrupt


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the body as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _quoted(path: Path) -> str:
    text = str(path.resolve()).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


@contextlib.contextmanager
def _quiet_launcher() -> Iterator[None]:
    """Hydra's launchers print each job; the follower shows the same, better."""
    logger = logging.getLogger("hydra_plugins")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


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


@contextlib.contextmanager
def syncing(config: Config, plan: Plan, store: Store) -> Iterator[Callable[[Sequence[Path]], None]]:
    """Mirrors the sweep to MLflow from a thread while the body runs, and once more at its end; never holds it up.

    Yields what makes files (the table, the pictures) artifacts of the sweep's own run there.
    """
    if config.tracking.kind == "off":
        yield lambda files: None
        return
    from ctt.launch.track import store_syncer

    syncer = store_syncer(config.tracking, store, plan)
    stop = threading.Event()
    thread = threading.Thread(target=syncer.follow, args=(stop,), name="ctt-sync", daemon=True)
    thread.start()
    published: list[Path] = []
    try:
        yield published.extend
    finally:
        stop.set()
        thread.join(timeout=60)
        if thread.is_alive():
            print("ctt: MLflow is slow to answer; `ctt sync` brings it up to date later", file=sys.stderr)
        elif published:
            syncer.finish(published, plan.sweep.name)
