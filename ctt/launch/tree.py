"""The plan as people read it: a tree of the sharing, a table of the stages, and what it costs."""

from __future__ import annotations

import difflib
import json
from collections import Counter, defaultdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from ctt.costs import Costs
from ctt.errors import DataError, UsageError
from ctt.launch.follow import duration
from ctt.launch.show import lineage
from ctt.plan import Budget, Plan, parts
from ctt.stages.data import Data
from ctt.store import Store

SHOWN = 12  # leaves of one branch before the rest is counted


def print_plan(plan: Plan, summary: dict[str, Any], store: Store, costs: Costs, devices: int) -> None:
    """Prints the tree, the stages, what merging, sharing, screening and the store save, and the merged points."""
    console = Console()
    cached = {s["key"] for s in summary["stages"] if s["status"] == "cached"}
    console.print(_tree(plan, cached))
    table = Table()
    for column in ("stage", "to run", "cached", "as written", "device time to run"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for kind in plan.kinds:
        keys = [s["key"] for s in summary["stages"] if s["kind"] == kind]
        todo = [k for k in keys if k not in cached]
        seconds = sum(costs.of(plan.stages[k], plan.start_of(plan.stages[k])).seconds for k in todo)
        table.add_row(
            kind.replace("_", " "), str(len(todo)), str(len(keys) - len(todo)), str(summary["runs"]), duration(seconds)
        )
    console.print(table)
    saving = summary["saving"]
    left = summary["device_seconds"] - saving["cached"]
    span = Budget(plan, cached, costs).makespan(devices)
    lines = [
        f"{summary['points']} points × {len(plan.sweep.seeds)} seeds = {summary['runs']} runs as written, "
        f"{summary['unique_runs']} after merging",
        f"world-model epochs: {summary['world_model_epochs']} instead of {summary['world_model_epochs_naive']}",
        f"device time: {duration(left)} to go; {duration(summary['device_seconds'])} on an empty store instead of "
        f"{duration(summary['device_seconds_naive'])} run by run",
        "saved by merging {merged}, sharing {shared}, screening {screened}, the store {cached}".format(
            **{k: duration(v) for k, v in saving.items()}
        ),
        f"on {devices} devices: {duration(span)}",
        f"timings: {_sources(plan, costs)}; store {store.root}",
    ]
    if any(getattr(stage, "provisional", False) for stage in plan.stages.values()):
        reason = _missing(plan)
        lines.append(f"the files of the data set are not there, so keys are provisional and counts official: {reason}")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)
    for (into, reason), count in Counter((m.into, m.reason) for m in plan.sweep.merged).items():
        console.print(f"{count} points merged into {into}: {reason}", soft_wrap=True, highlight=False)


def _missing(plan: Plan) -> str:
    """Why the data cannot be made."""
    for stage in plan.stages.values():
        if isinstance(stage, Data):
            try:
                stage.check()
            except DataError as error:
                return str(error)
    return ""


def _tree(plan: Plan, cached: set[str]) -> Tree:
    root = Tree(f"[bold]{plan.sweep.name}[/] ({plan.sweep.source}), seeds {', '.join(map(str, plan.sweep.seeds))}")
    branches: dict[tuple[str, ...], Any] = {(): root}
    counts: dict[int, int] = defaultdict(int)
    for run, target in zip(plan.sweep.runs, plan.targets, strict=True):
        path: tuple[str, ...] = ()
        for state in lineage(target)[:-1]:
            parent, path = branches[path], (*path, state.key)
            if path not in branches:
                mark = " [green]cached[/]" if state.key in cached else ""
                branches[path] = parent.add(f"trunk: seed {state.seed}, {state.epoch} epochs{mark}")
        branch = branches[path]
        counts[id(branch)] += 1
        if counts[id(branch)] > SHOWN:
            continue
        mark = " [green]cached[/]" if target.key in cached else ""
        aloe = "ALOE of the baseline" if target.taught_by else "ALOE"
        branch.add(f"{run.name}: to epoch {target.rollout.state.epoch}, rollout, {aloe}{mark}", highlight=False)
    for branch in branches.values():
        if counts[id(branch)] > SHOWN:
            branch.add(f"… and {counts[id(branch)] - SHOWN} more")
    return root


def _sources(plan: Plan, costs: Costs) -> str:
    """Where the estimates come from, by kind."""
    measured: dict[str, set[bool]] = defaultdict(set)
    for stage in plan.stages.values():
        measured[stage.kind].add(costs.of(stage, plan.start_of(stage)).measured)
    own = [k.replace("_", " ") for k in plan.kinds if measured[k] == {True}]
    other = [k.replace("_", " ") for k in plan.kinds if False in measured[k]]
    parts = [f"{', '.join(own)} measured in this store"] if own else []
    parts += [f"{', '.join(other)} as published for one H100 and the reference's sizes"] if other else []
    return "; ".join(parts)


def print_why(plan: Plan, name: str, cached: set[str]) -> None:
    """Explains one run: each stage's key, what is hashed into it, and which other runs have the same. Raises UsageError."""
    every = zip(plan.sweep.runs, plan.targets, plan.sides, strict=True)
    named = {run.name: parts(target, sides) for run, target, sides in every}
    if name not in named:
        near = difflib.get_close_matches(name, named, 3, 0.3) or list(named)[:3]
        raise UsageError(f"{plan.sweep.name} has no run {name!r}; runs are called like {', '.join(map(repr, near))}")
    console = Console()
    users: dict[str, list[str]] = defaultdict(list)
    for other, theirs in named.items():
        for stage in theirs:
            users[stage.key].append(other)
    for stage in named[name]:
        others = [o for o in users[stage.key] if o != name]
        shared = f"shared with {', '.join(others[:4])}{' …' if len(others) > 4 else ''}" if others else "this run's own"
        standing = "cached" if stage.key in cached else "to run"
        console.print(f"[bold]{stage.kind}[/] {stage.key} ({standing}; {shared})", soft_wrap=True)
        console.print_json(json.dumps(stage.describe()))
    for merged in plan.sweep.merged:
        if name.startswith(f"{merged.into} seed="):
            console.print(f"merged into it: {merged.values}, because {merged.reason}", soft_wrap=True)
