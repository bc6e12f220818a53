"""Job specs: what a process (`ctt.execution.jobs.job_process`) has to build, written when the sweep is submitted.

jobs/0007.json            the spec: later edits of settings or code do not change it
jobs/0007.log             its output
jobs/0007.pid             "PID STARTED HOST STAGE DEVICE" while it runs
jobs/0007.outcome.json    how its last attempt ended
jobs/0007.outcome.1.json  of a job of several processes: why process 1 failed
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctt.core.atomic_files import read_json, write_json
from ctt.core.build_context import PROGRESS
from ctt.core.errors import StoreError
from ctt.execution.jobs.failures import CLASSES, Failure
from ctt.store import Store

if TYPE_CHECKING:
    from ctt.planning import PlannedJob
    from ctt.stages.base import Stage


@dataclasses.dataclass(frozen=True)
class JobSpec:
    """A frozen job as launchers use it. path: its file; stages: keys of all it may have to build, in order; wanted: keys
    of its target and its auxiliary stages; needs: targets of other jobs; prefix: it trains a shared prefix."""

    number: int
    path: Path
    label: str
    target: str
    needs: frozenset[str]
    stages: tuple[str, ...]
    wanted: tuple[str, ...]
    prefix: bool = False

    @property
    def log(self) -> Path:
        return self.path.with_suffix(".log")

    @property
    def pid_file(self) -> Path:
        return self.path.with_suffix(".pid")

    @property
    def outcome_file(self) -> Path:
        return self.path.with_suffix(".outcome.json")

    def outcome(self) -> dict[str, Any] | None:
        """What the last attempt recorded at its end: {failure, message, time, host}; None if it could not.

        Of several processes the first one records it, unless another failed first: then that one, with its "rank".
        """
        own = _outcome(self.outcome_file)
        if own is None or own["failure"] == Failure.KILLED:
            return next(filter(None, map(_outcome, self._other_outcomes())), own)
        return own

    def remove_outcome(self) -> None:
        for file in (self.outcome_file, *self._other_outcomes()):
            file.unlink(missing_ok=True)

    def _other_outcomes(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.stem}.outcome.*.json"))


def _outcome(path: Path) -> dict[str, Any] | None:
    """What an outcome file holds; None if there is none, or it is damaged."""
    found = read_json(path)
    return found if isinstance(found, dict) and found.get("failure", "") in CLASSES and "message" in found else None


def freeze(job: PlannedJob, store: Store, folder: Path, number: int) -> JobSpec:
    """Writes the spec of a planned job as number `number` of the folder."""
    from ctt.config import as_dict
    from ctt.stages.auxiliary_stage import stage_plugins_of

    path = folder / f"{number:04d}.json"
    stages = list(stages_of(job.target, *job.auxiliaries))
    wanted = [stage.key for stage in (job.target, *job.auxiliaries)]
    content = {
        "store": str(Path(store.root).resolve()),
        "label": job.label,
        "target": job.target.key,
        "kind": job.target.kind,
        "epoch": getattr(job.target, "epoch", None),
        "fork_epochs": list(job.branch_epochs),
        "config": as_dict(job.config),
        "teacher": job.teacher and {"config": as_dict(job.teacher[0]), "fork_epochs": list(job.teacher[1])},
        "needs": sorted(job.needs),
        "stages": stages,
        "wanted": wanted,
    }
    if plugins := stage_plugins_of(job.auxiliaries):
        content["stage_plugins"] = plugins
    write_json(path, content, durable=False, sort_keys=False, end="")
    return JobSpec(number, path, job.label, job.target.key, job.needs, tuple(stages), tuple(wanted), job.prefix)


def stages_of(*targets: Stage) -> dict[str, Stage]:
    """The targets and all stages they depend on, by key, in the order they are built."""
    found: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        for other in (*stage.branch_points(), *stage.inputs().values()):
            visit(other)
        found[stage.key] = stage

    for target in targets:
        visit(target)
    return found


def read(folder: Path) -> list[JobSpec]:
    """The jobs of a record, by number."""
    return [read_one(path) for path in sorted(folder.glob("[0-9]*.json")) if path.stem.isdigit()]


def read_one(path: Path) -> JobSpec:
    """The job in a file. Raises StoreError if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        keys = (frozenset(content["needs"]), tuple(content["stages"]), tuple(content["wanted"]))
        return JobSpec(int(path.stem), path, content["label"], content["target"], *keys, content["kind"] == "world_model")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is no job of a sweep ({type(error).__name__}: {error}); start the sweep again") from error


def thaw(frozen: dict[str, Any]) -> tuple[Stage, tuple[Stage, ...]]:
    """The target of a job spec (the content of its file), and its auxiliary stages. Raises UsageError for a missing plugin."""
    from ctt.config import from_dict
    from ctt.planning import auxiliaries_of, target_of
    from ctt.stages.auxiliary_stage import check_stage_plugins
    from ctt.stages.main_line import MainLine

    teacher = frozen["teacher"] and target_of(from_dict(frozen["teacher"]["config"]), tuple(frozen["teacher"]["fork_epochs"]))
    config = from_dict(frozen["config"])
    target = target_of(config, tuple(frozen["fork_epochs"]), teacher)
    if frozen["kind"] == "world_model":
        return MainLine.of(target).world_model.at(frozen["epoch"]), ()
    check_stage_plugins(frozen.get("stage_plugins", {}))
    return target, auxiliaries_of(config, target)


def progress(folder: Path) -> dict[str, Any]:
    """The last progress report in a work folder. Raises OSError or ValueError if there is none."""
    value: dict[str, Any] = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    return value
