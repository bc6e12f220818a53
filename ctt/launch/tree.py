"""The plan as people read it: a tree of the sharing and a table of the numbers."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from ctt.launch.show import lineage
from ctt.plan import KINDS, Plan
from ctt.store import Store

SHOWN = 12  # leaves of one branch before the rest is counted


def print_plan(plan: Plan, summary: dict[str, Any], store: Store) -> None:
    """Prints the tree, the numbers and the merged points."""
    console = Console()
    cached = {s["key"] for s in summary["stages"] if s["status"] == "cached"}
    root = Tree(f"[bold]{plan.sweep.name}[/] ({plan.sweep.source}), seeds {', '.join(map(str, plan.sweep.seeds))}")
    branches: dict[tuple[str, ...], Any] = {(): root}
    counts: dict[int, int] = defaultdict(int)
    for run, target in zip(plan.sweep.runs, plan.targets, strict=True):
        path: tuple[str, ...] = ()
        for state in lineage(target)[:-1]:
            parent, path = branches[path], (*path, state.key)
            if path not in branches:
                mark = " [green]cached[/]" if state.key in cached else ""
                branches[path] = parent.add(f"trunk: seed {state.seed}, {state.epoch} epochs without losses{mark}")
        branch = branches[path]
        counts[id(branch)] += 1
        if counts[id(branch)] > SHOWN:
            continue
        mark = " [green]cached[/]" if target.key in cached else ""
        branch.add(f"{run.name}: world model to epoch {target.rollout.state.epoch}, rollout, ALOE{mark}", highlight=False)
    for branch in branches.values():
        if counts[id(branch)] > SHOWN:
            branch.add(f"… and {counts[id(branch)] - SHOWN} more")
    console.print(root)
    table = Table()
    for column in ("stage", "to run", "cached", "as written"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for kind in KINDS:
        keys = [s["key"] for s in summary["stages"] if s["kind"] == kind]
        have = sum(k in cached for k in keys)
        table.add_row(kind.replace("_", " "), str(len(keys) - have), str(have), str(summary["runs"]))
    console.print(table)
    console.print(
        f"{summary['points']} points × {len(plan.sweep.seeds)} seeds = {summary['runs']} runs as written, "
        f"{summary['unique_runs']} after merging; world-model epochs {summary['world_model_epochs']} "
        f"instead of {summary['world_model_epochs_naive']}; store {store.root}",
        soft_wrap=True,
    )
    for merged in plan.sweep.merged:
        console.print(f"merged into {merged.into}: {merged.values} ({merged.reason})", soft_wrap=True)
