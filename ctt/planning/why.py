"""`ctt plan NAME --why RUN`: what decides a run's stages, and which other runs share them."""

from __future__ import annotations

import difflib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console

from ctt.core.errors import UsageError
from ctt.core.settings import active_rules
from ctt.core.terminal_console import terminal
from ctt.planning import Plan, parts
from ctt.stages.base import Stage
from ctt.sweep import run_name


def print_why(plan: Plan, name: str, cached: set[str], console: Console | None = None) -> None:
    """Explains one run: each stage's key, what is hashed into it, what of that differs from the baseline's, and which
    other runs have the same. Raises UsageError."""
    console = console or terminal()
    every = zip(plan.sweep.runs, plan.targets, plan.auxiliaries, strict=True)
    name = run_name(name)
    named = {run.name: (run, parts(target, auxiliaries)) for run, target, auxiliaries in every}
    if name not in named:
        near = sorted(difflib.get_close_matches(name, named, 3, 0.3)) or list(named)[:3]
        raise UsageError(f"{plan.sweep.name} has no run {name!r}; runs are called like {', '.join(map(repr, near))}")
    users: dict[str, list[str]] = defaultdict(list)
    for other, (_, theirs) in named.items():
        for stage in theirs:
            users[stage.key].append(other)
    run, own = named[name]
    baseline = next(stages for other, stages in named.values() if other.point.baseline and other.seed == run.seed)
    last = {stage.kind: stage for stage in baseline}
    for stage in own:
        others = [o for o in users[stage.key] if o != name]
        shared = f"shared with {', '.join(others[:4])}{' …' if len(others) > 4 else ''}" if others else "this run's own"
        standing = "cached" if stage.key in cached else "to run"
        console.print(f"[bold]{stage.kind}[/] {stage.key} ({standing}; {shared})", soft_wrap=True, highlight=False)
        if stage.kind in last and stage.key not in {s.key for s in baseline}:
            differing = ", ".join(_differences(stage, last[stage.kind])) or "its inputs alone"
            console.print(f"  differs from the baseline's in {differing}", soft_wrap=True, highlight=False)
        console.print_json(json.dumps(stage.describe()))
    for rule in active_rules(run.config):
        console.print(f"not read: {', '.join(rule.inactive)} ({rule.reason})", soft_wrap=True, highlight=False)
    for merged in plan.sweep.merged:
        if merged.into == run.point.label:
            console.print(f"merged into it: {merged.values}, because {merged.reason}", soft_wrap=True, highlight=False)


def _differences(stage: Stage, other: Stage) -> Iterator[str]:
    """`name=mine (theirs)` of what is hashed into two stages of a kind."""
    mine, theirs = (dict(_flat(s.describe()["settings"])) for s in (stage, other))
    for name in dict.fromkeys((*mine, *theirs)):
        if mine.get(name) != theirs.get(name):
            yield f"{name}={mine.get(name, 'not read')} ({theirs.get(name, 'not read')})"


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield prefix + name, item
