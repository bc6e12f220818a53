"""`ctt gc` and `ctt show`: what is in the store, what of it live sweeps still reach, and what one artifact is."""

from __future__ import annotations

import dataclasses
import difflib
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ctt.core.errors import CttError, UsageError
from ctt.core.units import size
from ctt.execution.jobs import event_log, snapshot
from ctt.plan import Plan
from ctt.stages.base import seconds_of
from ctt.store import Store
from ctt.study import record


@dataclasses.dataclass(frozen=True)
class Item:
    """An artifact that gc could remove: its kind, bytes, and whether a live sweep's plan names it."""

    key: str
    kind: str
    size: int
    reached: bool


def plans(store: Store) -> list[Plan]:
    """The plans of the newest record of every sweep: what is live."""
    return [record.load(record.newest(store, name)) for name in record.names(store)]


def survey(store: Store) -> list[Item]:
    """Every artifact of the store with its size."""
    reached = {key for plan in plans(store) for key in plan.stages}
    items = []
    for key in list(store.keys()):
        manifest = store.manifest(key)
        size = sum(f["size"] for f in manifest["files"].values())
        items.append(Item(key, manifest.get("kind", "?"), size, key in reached))
    return items


def garbage(store: Store, items: list[Item], rollouts: bool) -> list[Item]:
    """What may go: first rollouts (rebuilt in seconds) that no sweep reaches, then the rest that none reaches.

    rollouts: those that a live sweep reaches too, where the answers made from them are already in the store.
    """
    gone = [item for item in items if not item.reached]
    if rollouts:
        have = {item.key for item in items}
        waiting = set()
        for plan in plans(store):
            for target, auxiliaries in zip(plan.targets, plan.auxiliaries, strict=True):
                readers = [s for s in (target, *auxiliaries) if s.key not in have]
                waiting |= {stage.key for reader in readers for stage in reader.inputs().values()}
        gone += [i for i in items if i.reached and i.kind == "rollout" and i.key not in waiting]
    return sorted(gone, key=lambda item: (item.kind != "rollout", item.kind, item.key))


def codes(store: Store) -> set[str]:
    """Snapshots of code that a sweep's newest record refers to, or an older one some of whose jobs have not ended."""
    named: set[str] = set()
    for name in record.names(store):
        newest = record.newest(store, name)
        for folder in newest.parent.glob("[0-9]*"):
            if (folder == newest or _may_run(folder / "jobs")) and (code := record.code_of(folder)):
                named.add(code)
    return named


def _may_run(jobs: Path) -> bool:
    return any(event["event"] != "ended" for event in event_log.last(jobs).values())


def collect(store: Store, *, rollouts: bool, yes: bool, console: Console) -> int:
    """Shows what would go, asks, removes. Work in progress and leased keys are never touched."""
    items = survey(store)
    gone = garbage(store, items, rollouts)
    old_code = snapshot.garbage(store, codes(store))
    table = Table(title=f"store {store.root}")
    for column in ("kind", "kept", "size", "to go", "size to go"):
        table.add_column(column, justify="left" if column == "kind" else "right")
    going = {item.key for item in gone}
    by_kind: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_kind[item.kind].append(item)
    for kind, members in sorted(by_kind.items()):
        kept, left = [i for i in members if i.key not in going], [i for i in members if i.key in going]
        table.add_row(
            kind, str(len(kept)), size(sum(i.size for i in kept)), str(len(left)), size(sum(i.size for i in left))
        )
    if old_code:
        table.add_row("code", "", "", str(len(old_code)), "")
    console.print(table)
    if not gone and not old_code:
        console.print("nothing to remove: every artifact is reached by a recorded sweep")
        return 0
    if not yes:
        if not console.is_terminal:
            console.print("nothing was removed: say --yes, or answer on a terminal")
            return 1
        what = f"{len(gone)} artifacts, {size(sum(i.size for i in gone))}, and {len(old_code)} snapshots of code"
        if console.input(f"remove {what}? [y/N] ").strip().lower() != "y":
            console.print("nothing was removed")
            return 1
    removed = 0
    for item in gone:
        try:
            store.remove(item.key)
            removed += item.size
        except CttError as error:
            console.print(f"{item.kind} {item.key[:12]} stays: {error}", soft_wrap=True, markup=False)
    for path in old_code:
        snapshot.remove(path)
    console.print(f"{size(removed)} freed")
    return 0


def show(store: Store, what: str, console: Console) -> int:
    """Prints an artifact's settings, inputs and provenance; `what` is a key, the start of one, or the name of a run."""
    key = find(store, what)
    artifact = store.get(key)
    if artifact is None:
        raise UsageError(f"{what} is not in the store {store.root} (never built, or damaged and quarantined)")
    manifest = artifact.manifest
    provenance = manifest["provenance"]
    console.print(f"[bold]{manifest['kind']}[/] {key}", highlight=False, soft_wrap=True)
    console.print(str(artifact.path), highlight=False, soft_wrap=True)
    for name, other in manifest["inputs"].items():
        console.print(f"  input {name}: {other}", highlight=False, soft_wrap=True)
    if manifest.get("started_from"):
        console.print(f"  continued from: {manifest['started_from']}", highlight=False, soft_wrap=True)
    console.print_json(json.dumps(manifest["settings"]))
    took = provenance["ended"] - provenance["began"]
    earlier = seconds_of(provenance) - took
    before = f", after {earlier:.0f} s of interrupted work," if earlier >= 1 else ""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(provenance["began"]))
    where = f"{provenance['host']}, {provenance.get('device', 'cpu')} ({provenance['numerics']})"
    console.print(f"built {when} in {took:.0f} s{before} on {where}", soft_wrap=True)
    console.print(f"code {provenance['git']}, Python {provenance['python']}, {_versions(provenance)}", soft_wrap=True)
    if provenance.get("diff"):
        console.print(f"uncommitted changes: {store.root / 'diffs' / provenance['diff']}", soft_wrap=True)
    for name, file in sorted(manifest["files"].items()):
        console.print(f"  {size(file['size']):>9}  {name}", highlight=False)
    path = artifact.path / "metrics.json"
    if path.is_file():
        metrics = json.loads(path.read_text(encoding="utf-8"))
        metrics.pop("blind", None)
        console.print_json(json.dumps({k: v for k, v in metrics.items() if k != "per_frame"}))
    return 0


def _versions(provenance: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in provenance["packages"].items())


def find(store: Store, what: str) -> str:
    """The key meant by `what`: itself, its first letters, or a run's name (`demo/baseline seed=0`). Raises UsageError."""
    if all(c in "0123456789abcdef" for c in what) and len(what) >= 4:
        folder = Path(store.root) / "artifacts" / what[:2]
        found = [p.name for p in folder.glob(f"{what}*")] if folder.is_dir() else []
        if len(found) == 1:
            return found[0]
        raise UsageError(f"{len(found) or 'no'} artifacts of {store.root} begin with {what}")
    named: dict[str, str] = {}
    unreadable = []
    for sweep in record.names(store):
        try:
            plan = record.load(record.newest(store, sweep))
        except CttError as error:
            unreadable.append(f"; {error}")
            continue
        named |= {f"{sweep}/{run.name}": t.key for run, t in zip(plan.sweep.runs, plan.targets, strict=True)}
    matches = [name for name in named if name == what or name.endswith(f"/{what}")]
    if len(matches) != 1:
        near = sorted(difflib.get_close_matches(what, named, 3, 0.5))
        listed = ", ".join(sorted(matches)[:8] or near or sorted(named)[:8]) or "none yet"
        count = len(matches) or "no"
        raise UsageError(f"{what!r} names {count} runs; runs are called like: {listed}{''.join(unreadable)}")
    return named[matches[0]]
