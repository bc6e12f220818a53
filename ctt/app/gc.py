"""`ctt gc`: removes artifacts that no recorded sweep reaches, and code that no job needs any more."""

from __future__ import annotations

import dataclasses
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ctt.core.errors import CttError, StoreError
from ctt.core.units import size
from ctt.execution.jobs import event_log, snapshot
from ctt.planning import Plan
from ctt.stages.imagined import ImaginedVideos
from ctt.stages.rollout import Rollout
from ctt.store import Store
from ctt.store.artifact import DamagedArtifact
from ctt.study import record

REBUILT = (Rollout.kind, ImaginedVideos.kind)
"""The kinds of artifacts that take the most space, and little time to build again."""


@dataclasses.dataclass(frozen=True)
class Item:
    """An artifact of the store: its size in bytes, and whether the plan of a recorded sweep contains it."""

    key: str
    kind: str
    size: int
    reached: bool


def plans(store: Store) -> list[Plan]:
    """The plans of the newest record of every sweep."""
    return [record.load(record.newest(store, name)) for name in record.names(store)]


def survey(store: Store, damaged: Callable[[str], None] = lambda text: None) -> list[Item]:
    """Every artifact of the store. Those with a damaged manifest go to quarantine and are left out; `damaged` gets a sentence."""
    reached = {key for plan in plans(store) for key in plan.stages}
    items = []
    for key in list(store.keys()):
        try:
            with warnings.catch_warnings(action="ignore", category=DamagedArtifact):
                manifest = store.manifest(key)
        except StoreError as error:
            damaged(str(error))
            continue
        total = sum(file["size"] for file in manifest["files"].values())
        items.append(Item(key, manifest.get("kind", "?"), total, key in reached))
    return items


def garbage(store: Store, items: list[Item], rollouts: bool) -> list[Item]:
    """What can be removed: artifacts that no sweep reaches, rollouts and imagined videos first (they are rebuilt soon).

    rollouts: also those of these that a sweep reaches, where everything made from them is in the store.
    """
    unneeded = [item for item in items if not item.reached]
    if rollouts:
        present = {item.key for item in items}
        inputs = set()
        for plan in plans(store):
            for target, auxiliaries in zip(plan.targets, plan.auxiliaries, strict=True):
                missing = [stage for stage in (target, *auxiliaries) if stage.key not in present]
                inputs |= {other.key for stage in missing for other in stage.inputs().values()}
        unneeded += [i for i in items if i.reached and i.kind in REBUILT and i.key not in inputs]
    return sorted(unneeded, key=lambda item: (item.kind not in REBUILT, item.kind, item.key))


def snapshots_in_use(store: Store) -> set[str]:
    """Snapshots of code that a sweep's newest record refers to, or an older one some of whose jobs have not ended."""
    used: set[str] = set()
    for name in record.names(store):
        newest = record.newest(store, name)
        for folder in newest.parent.glob("[0-9]*"):
            if (folder == newest or _may_run(folder / "jobs")) and (code := record.code_of(folder)):
                used.add(code)
    return used


def _may_run(jobs: Path) -> bool:
    return any(event["event"] != "ended" for event in event_log.last(jobs).values())


def collect(store: Store, *, rollouts: bool, yes: bool, console: Console) -> int:
    """Shows what would be removed, asks, removes. Work in progress and leased keys are never touched."""
    items = survey(store, lambda text: console.print(text, soft_wrap=True, markup=False, highlight=False))
    unneeded = garbage(store, items, rollouts)
    old_code = snapshot.garbage(store, snapshots_in_use(store))
    console.print(_overview(store, items, unneeded, len(old_code)))
    if not unneeded and not old_code:
        console.print("nothing to remove: recorded sweeps reach every artifact")
        return 0
    if not yes:
        if not console.is_terminal:
            console.print("nothing was removed: confirm with --yes, or answer on a terminal")
            return 1
        what = f"{len(unneeded)} artifacts, {_size_of(unneeded)}, and {len(old_code)} snapshots of code"
        if console.input(f"remove {what}? [y/N] ").strip().lower() != "y":
            console.print("nothing was removed")
            return 1
    removed = []
    for item in unneeded:
        try:
            store.remove(item.key)
            removed.append(item)
        except CttError as error:
            console.print(f"{item.kind} {item.key[:12]} stays: {error}", soft_wrap=True, markup=False)
    for path in old_code:
        snapshot.remove(path)
    console.print(f"{_size_of(removed)} freed")
    return 0


def _overview(store: Store, items: Sequence[Item], unneeded: Sequence[Item], old_code: int) -> Table:
    """Number and size of the artifacts of each kind that stay and that would be removed."""
    table = Table(title=f"store {store.root}")
    for column in ("kind", "kept", "size kept", "to remove", "size to remove"):
        table.add_column(column, justify="left" if column == "kind" else "right")
    by_kind: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_kind[item.kind].append(item)
    removed = {item.key for item in unneeded}
    for kind, members in sorted(by_kind.items()):
        kept, left = [i for i in members if i.key not in removed], [i for i in members if i.key in removed]
        table.add_row(kind, str(len(kept)), _size_of(kept), str(len(left)), _size_of(left))
    if old_code:
        table.add_row("code", "", "", str(old_code), "")
    return table


def _size_of(items: Sequence[Item]) -> str:
    return size(sum(item.size for item in items))
