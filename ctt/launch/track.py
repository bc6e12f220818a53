"""From a plan to what the syncer mirrors: one TrackedRun a run, its trunk's stages first."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ctt.config import Config
from ctt.errors import StoreError, UsageError
from ctt.launch import record
from ctt.launch.show import lineage
from ctt.plan import Plan, parts
from ctt.stages.origin import git_commit
from ctt.store import Store
from ctt.tracking import Syncer, TrackedRun, TrackedStage, TrackingSettings

TRACKING_LEASE = "tracking"


def tracked_runs(plan: Plan, store: Store) -> list[TrackedRun]:
    """Every run of the plan as the syncer sees it."""
    commit = git_commit() or "unknown"
    runs = []
    for run, target, sides in zip(plan.sweep.runs, plan.targets, plan.sides, strict=True):
        states = lineage(target)
        own = {s.key for s in parts(target)}
        tags = {"ctt.git_commit": commit}
        if len(states) > 1:
            tags["ctt.fork_parent"] = states[-2].key
        runs.append(
            TrackedRun(
                sweep=plan.sweep.name,
                name=run.name,
                point=run.point.label,
                seed=run.seed,
                tags=tags,
                params=flat_params(run.config),
                stages=tuple(
                    TrackedStage(
                        kind=s.kind,
                        key=s.key,
                        finished=store.path(s.key),
                        working=partial(store.unfinished, s.key),
                        failure=store.root / "failures" / s.key,
                        beside=s.key not in own,
                    )
                    for s in parts(target, sides)
                ),
                baseline=run.point.baseline,
            )
        )
    return runs


def flat_params(config: Config) -> dict[str, Any]:
    """Dotted names and values of everything that decides a result."""

    def walk(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            if not field.metadata.get("key", True):
                continue
            if dataclasses.is_dataclass(value):
                yield from walk(value, f"{prefix}{field.name}.")
            else:
                yield prefix + field.name, value

    return dict(walk(config, ""))


class AllRuns:
    """The runs of the newest record of every sweep in the store; a record is compiled once, when it appears."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[Path, list[TrackedRun]] = {}

    def __call__(self) -> list[TrackedRun]:
        runs = []
        for name in record.names(self.store):
            with contextlib.suppress(StoreError, UsageError):
                folder = record.newest(self.store, name)
                if folder not in self._known:
                    self._known[folder] = tracked_runs(record.load(folder), self.store)
                runs += self._known[folder]
        return runs


def store_syncer(tracking: TrackingSettings, store: Store, plan: Plan | None = None, rebuild: bool = False) -> Syncer:
    """A syncer, under the store's tracking lease, of one plan or of everything in the store."""
    runs = tracked_runs(plan, store) if plan is not None else AllRuns(store)
    return Syncer(tracking, store.root, runs, lease=lambda: store.lease(TRACKING_LEASE, wait=False), rebuild=rebuild)
