"""The plan as people read it: a tree of the sharing, a table of the stages, and what compiling saves."""

from __future__ import annotations

from collections import Counter, defaultdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from ctt.core.disk_space import too_small
from ctt.core.errors import DataError
from ctt.core.terminal_console import terminal
from ctt.core.units import count, duration, size
from ctt.planning import Budget, Plan
from ctt.planning.costs import Source
from ctt.stages.base import Stage
from ctt.stages.data import Data
from ctt.stages.imported_weights import ImportedWeights
from ctt.stages.main_line import MainLine
from ctt.store import Store

SHOWN = 6  # leaves of one branch, and reasons, before the rest is counted


def print_plan(budget: Budget, store: Store, devices: int, console: Console | None = None) -> None:
    """Prints the tree, the stages, what merging, sharing, screening and the store save, and the merged points."""
    plan, console, numbers = budget.plan, console or terminal(), budget.numbers()
    console.print(_tree(plan, budget.cached))
    console.print(_stages(budget))
    console.print(_saving(budget))
    lines = [
        f"{count(numbers['points'], 'point')} × {count(len(plan.sweep.seeds), 'seed')} = "
        f"{count(numbers['runs'], 'run')} as written, "
        f"{numbers['unique_runs']} after merging; world-model epochs: {numbers['world_model_epochs']:,} instead of "
        f"{numbers['world_model_epochs_naive']:,}",
        f"on {count(devices, 'device')}: {hours(budget.makespan(devices))}; with unlimited devices {hours(budget.critical_path)} "
        f"(critical path); disk: {size(budget.disk)}",
        f"timings: {_sources(budget)}; store {store.root}",
    ]
    if any(getattr(stage, "provisional", False) for stage in plan.stages.values()):
        reason = _missing(plan)
        lines.append(f"files are not there, so keys are provisional and the counts of a data set official: {reason}")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)
    if (warning := too_small(budget.disk, store.root)) is not None:
        console.print(f"[yellow]warning: {escape(warning)}[/]", soft_wrap=True, highlight=False)
    for text in merged(plan):
        console.print(text, soft_wrap=True, highlight=False)


def _tree(plan: Plan, cached: set[str]) -> Tree:
    """Which points share which training; every seed has the same tree, so that it is drawn once."""
    seeds = plan.sweep.seeds
    root = Tree(f"[bold]{plan.sweep.name}[/] ({plan.sweep.source}), for each seed: {', '.join(map(str, seeds))}")
    lines: dict[str, list[MainLine]] = defaultdict(list)
    for run, line in zip(plan.sweep.runs, plan.lines, strict=True):
        lines[run.point.label].append(line)

    def cached_note(stages: list[Stage]) -> str:
        there = sum(stage.key in cached for stage in stages)
        whole = "" if there == len(stages) else f" {there} of {len(stages)}"
        return f" [green]cached{whole}[/]" if there else ""

    branches: dict[str, Tree] = {"": root}
    leaves: Counter[str] = Counter()
    for label, own in lines.items():
        at, begin = "", 0
        for number, state in enumerate(own[0].prefix):
            if state.key not in branches:
                text = f"shared prefix: epochs {begin} to {state.epoch}{cached_note([line.prefix[number] for line in own])}"
                branches[state.key] = branches[at].add(text, highlight=False)
            at, begin = state.key, state.epoch
        leaves[at] += 1
        if leaves[at] <= SHOWN:
            answered = "" if own[0].answers is None else ", the baseline's ALOE" if own[0].aloe_from else ", ALOE"
            epochs = own[0].world_model.epoch
            trained = f"epochs {begin} to {epochs}" if epochs else "weights of a file"
            imagined = ", imagined videos" if own[0].answers is not None and own[0].answers.imagined is not None else ""
            text = f"[bold]{label}[/]: {trained}, rollout{imagined}{answered}"
            branches[at].add(text + cached_note([line.target for line in own]), highlight=False)
    for key, branch in branches.items():
        if leaves[key] > SHOWN:
            branch.add(f"… and {leaves[key] - SHOWN} more points")
    return root


def _stages(budget: Budget) -> Table:
    """Stages by kind: to run, in the store, and how many of those that the runs as written have are shared or merged."""
    plan, written = budget.plan, budget.plan.sweep.written * len(budget.plan.sweep.seeds)
    table = Table()
    for column in ("stage", "to run", "cached", "shared", "device time to run", "disk"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    kinds = defaultdict[str, list[str]](list)
    for key, stage in plan.stages.items():
        kinds["shared prefix" if key in plan.prefixes else stage.label].append(key)
    for name, keys in kinds.items():
        todo = [key for key in keys if key not in budget.cached]
        shared = "" if name == "shared prefix" else f"{written - len(keys):,}"
        time, disk = sum(budget.seconds[key] for key in todo), sum(budget.bytes[key] for key in todo)
        table.add_row(name, f"{len(todo):,}", f"{len(keys) - len(todo):,}", shared, hours(time), size(disk))
    return table


def _saving(budget: Budget) -> Table:
    """From every run as written, by itself, down to what is left to do."""
    table = Table(show_header=False)
    table.add_column("what")
    table.add_column("device time", justify="right")
    saving = budget.saving
    like = budget.naive
    table.add_row("every run by itself", hours(like))
    for name, text in (("merged", "equal points merged"), ("shared", "training shared"), ("screened", "ALOE screened")):
        if saving[name]:
            table.add_row(f"  {text}", f"−{hours(saving[name], like)}")
    table.add_row("this sweep", hours(budget.total, like))
    if saving["cached"]:
        table.add_row("  in the store", f"−{hours(saving['cached'], like)}")
        table.add_row("to go", hours(budget.left, like))
    return table


def merged(plan: Plan) -> list[str]:
    """Which points merged into which, and why; alike ones counted."""
    counted = Counter((merged.into, merged.reason) for merged in plan.sweep.merged)
    lines = []
    for (into, reason), number in counted.most_common(SHOWN):
        what = count(number, "point")
        if number == 1:
            values = next(m.values for m in plan.sweep.merged if (m.into, m.reason) == (into, reason))
            what = " ".join(f"{name}={value}" for name, value in values.items()) or what
        lines.append(f"{what} merged into {into}: {reason}")
    if len(counted) > SHOWN:
        lines.append(f"… and {sum(counted.values()) - sum(n for _, n in counted.most_common(SHOWN))} more points merged")
    return lines


def _missing(plan: Plan) -> str:
    """Why the data cannot be made."""
    for stage in plan.stages.values():
        if isinstance(stage, Data | ImportedWeights):
            try:
                stage.check()
            except DataError as error:
                return str(error)
    return ""


def _sources(budget: Budget) -> str:
    """Where the estimates come from, by kind; of several sources of a kind the least."""
    plan, costs = budget.plan, budget.costs
    order = list(Source)
    least = dict.fromkeys(plan.kinds, Source.MEASURED)
    for stage in plan.stages.values():
        source = costs.of(stage, plan.start_of(stage)).source
        least[stage.kind] = max(least[stage.kind], source, key=order.index)
    kinds = {source: [plan.labels[kind] for kind in plan.kinds if least[kind] is source] for source in order}
    return "; ".join(f"{', '.join(names)} {source.value}" for source, names in kinds.items() if names)


def hours(seconds: float, like: float | None = None) -> str:
    """A duration; from a hundred hours on, of it or of what it is shown with, in hours: 1,352 h."""
    return duration(seconds) if (like or seconds) < 360_000 else f"{seconds / 3600:,.0f} h"
