"""TrackedRun: what the syncer has to know of a run, without plans or stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ctt.core.settings import digest
from ctt.data.categories import CLEVRER_CATEGORIES
from ctt.stages.columns import Column


@dataclass(frozen=True)
class TrackedStage:
    """A stage of a run: `working` becomes `finished` by a rename; each may hold metrics.jsonl and metrics.json.

    kind is the prefix of its metrics ("world_model", "vqa"). working is a folder, or a function that finds it (a store
    moves unfinished work when another owner takes it over). failure is the file or folder in which failed attempts
    are recorded, newer than the work's own files while nobody has continued it. auxiliary: the run's answers do not
    depend on it, so it is no part of what the run is known by, and its failure is not the run's. label: what it is called;
    columns: those of its numbers that the run's page shows. log: finds the log of the job that has built it, None without one.
    """

    kind: str
    key: str
    finished: Path
    working: Path | Callable[[], Path | None]
    failure: Path | None = None
    auxiliary: bool = False
    label: str = ""
    columns: tuple[Column, ...] = ()
    log: Callable[[], Path | None] = lambda: None


@dataclass(frozen=True)
class TrackedRun:
    """One run of a sweep, which becomes one MLflow run.

    stages lists what the run is made of in the order of training: the states of its shared prefix come first, and their
    curves are shown as its own. params is the flat configuration; of settings that have no effect on it those alone in
    which all other runs agree. tags are shown as given, with those that ctt makes. baseline: the run is of the point that
    the others are compared with.
    known_as: the point's name in `identity`, where runs made by an earlier version have another one than `point`.
    experiment: the MLflow experiment that shows it; "": the one that the syncer's settings name.
    swept: those of its params that vary in its sweep.
    asked: when its sweep first asked for it, ms since 1970; what was finished before that is no work of this run.
    metrics: its accuracies, each category of its data's questions and the pooled ones; none if there are no questions.
    """

    sweep: str
    name: str
    point: str
    seed: int
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[TrackedStage, ...] = ()
    baseline: bool = False
    known_as: str = ""
    experiment: str = ""
    swept: tuple[str, ...] = ()
    metrics: tuple[str, ...] = CLEVRER_CATEGORIES.metrics
    asked: int = 0

    @cached_property
    def identity(self) -> str:
        """sha256 that finds the run again: sweep, point, seed and the keys of what it computes, never a run number."""
        return digest(
            [self.sweep, self.known_as or self.point, self.seed, [[s.kind, s.key] for s in self.stages if not s.auxiliary]]
        )

    def all_tags(self) -> dict[str, str]:
        """The tags given, with ctt.run, ctt.sweep, ctt.point, ctt.seed, ctt.key.KIND and ctt.branch_parent."""
        tags = {
            "ctt.kind": "run",
            "ctt.run": self.identity,
            "ctt.sweep": self.sweep,
            "ctt.point": self.point,
            "ctt.seed": str(self.seed),
            "ctt.baseline": str(self.baseline).lower(),
            "mlflow.source.name": "ctt",
        }
        states = [stage.key for stage in self.stages if stage.kind == "world_model"]
        if len(states) > 1:
            tags["ctt.branch_parent"] = states[-2]
        tags.update({f"ctt.key.{stage.kind}": stage.key for stage in self.stages})
        tags.update({str(name): str(value) for name, value in self.tags.items()})
        if commit := tags.get("ctt.git_commit", tags.get("git_commit")):
            tags.setdefault("mlflow.source.git.commit", commit)
        return tags
