"""From a plan to what the syncer sends to MLflow: one TrackedRun a run, its shared prefix's stages first."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ctt.config import Config
from ctt.core.errors import StoreError, UsageError
from ctt.core.settings import active_rules, digest
from ctt.models.losses.loss_term import loss_terms
from ctt.planning import Plan, parts
from ctt.setting_names import flat_params
from ctt.stages.auxiliary_stage import AuxiliaryStage
from ctt.stages.code_version import git_commit
from ctt.store import Store
from ctt.study import record
from ctt.tracking.syncer import Syncer
from ctt.tracking.tracked_runs import TrackedRun, TrackedStage
from ctt.tracking.tracking_settings import TrackingSettings

log = logging.getLogger("ctt.tracking")


def tracked_runs(plan: Plan, store: Store) -> list[TrackedRun]:
    """Every run of the plan, for the syncer."""
    commit, asked = git_commit() or "unknown", record.first_times(store, plan)
    varied = {name: None for point in plan.sweep.points for name in point.values}
    logs = record.JobLogs(store, plan.sweep.name)
    read: dict[str, dict[str, Any]] = {}
    for point in plan.sweep.points:
        for name, value in _effective(point.config).items():
            read.setdefault(name, {})[repr(value)] = value
    runs = []
    for run, line, auxiliaries in zip(plan.sweep.runs, plan.lines, plan.auxiliaries, strict=True):
        own = {s.key for s in parts(line.target)}
        tags = {"ctt.git_commit": commit}
        params = _params(run.config, read)
        if line.prefix:
            tags["ctt.branch_parent"] = line.prefix[-1].key
        runs.append(
            TrackedRun(
                sweep=plan.sweep.name,
                name=run.seed_first,
                point=run.point.label,
                seed=run.seed,
                tags=tags,
                params=params,
                stages=tuple(
                    TrackedStage(
                        kind=s.kind,
                        key=s.key,
                        finished=store.path(s.key),
                        working=partial(store.unfinished, s.key),
                        failure=store.root / "failures" / s.key,
                        auxiliary=s.key not in own,
                        label=s.label,
                        columns=s.columns if isinstance(s, AuxiliaryStage) else (),
                        log=partial(logs, s.key),
                    )
                    for s in parts(line.target, auxiliaries)
                ),
                baseline=run.point.baseline,
                known_as=run.point.former_label,
                experiment=run.config.tracking.experiment_name(plan.sweep.name),
                swept=tuple(name for name in varied if name in params),
                metrics=run.config.data.format.categories.metrics,
                asked=asked.get((run.point.label, run.seed), 0),
            )
        )
    return runs


def _effective(config: Config) -> dict[str, Any]:
    """The settings that have an effect, and the weights of losses: one of 0 means that its loss does not act."""
    silent = {name for rule in active_rules(config) for name in rule.inactive} - {term.flag for term in loss_terms().values()}
    starts = tuple(f"{name}." for name in silent)
    return {name: value for name, value in flat_params(config).items() if name not in silent and not name.startswith(starts)}


def _params(config: Config, read: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What MLflow shows of a run's settings; read: the values of each setting in the points that it has an effect on.

    One without effect has the value of all others if they agree, as MLflow takes a missing value for another one, else none.
    """
    own = _effective(config)
    return {name: own.get(name, next(iter(values.values()))) for name, values in read.items() if name in own or len(values) == 1}


class AllRuns:
    """The runs of the newest record of every sweep in the store. A record is compiled once, when it appears; an unreadable
    one is logged as a warning, once.

    only: settings of a running sweep; then only sweeps that track to the same address are included. One process at a time
    sends a store's runs to an address, so it also has to keep the curves of other running sweeps up to date.
    """

    def __init__(self, store: Store, plan: Plan | None = None, only: TrackingSettings | None = None) -> None:
        self.store, self.only = store, only
        self._known: dict[Path, list[TrackedRun]] = {}
        if plan is not None:
            self._known[record.newest(store, plan.sweep.name)] = tracked_runs(plan, store)

    def __call__(self) -> list[TrackedRun]:
        runs = []
        for name in record.names(self.store):
            with contextlib.suppress(UsageError):  # removed after its name was read
                folder = record.newest(self.store, name)
                if folder not in self._known:
                    self._known[folder] = self._tracked(folder)
                runs += self._known[folder]
        return runs

    def _tracked(self, folder: Path) -> list[TrackedRun]:
        try:
            plan = record.load(folder)
        except (StoreError, UsageError) as error:
            log.warning("tracking: %s; its runs are not shown", error)
            return []
        theirs = plan.sweep.baseline.config.tracking
        root = self.store.root
        if self.only and (theirs.kind == "off" or theirs.address(root) != self.only.address(root)):
            return []
        return tracked_runs(plan, self.store)


def store_syncer(tracking: TrackingSettings, store: Store, plan: Plan | None = None, rebuild: bool = False) -> Syncer:
    """A syncer of every sweep in the store, or, for a running sweep (`plan`), of those with the same tracking address.

    One process at a time syncs a store with an address, by a lease named after the address.
    """
    runs = AllRuns(store) if plan is None else AllRuns(store, plan, tracking)
    lease = f"tracking-{digest(tracking.address(store.root))[:16]}"
    return Syncer(tracking, store.root, runs, lease=lambda: store.lease(lease, wait=False), rebuild=rebuild)
