"""Record: what `ctt sweep` resolved and submitted, in the store's sweeps/NAME; other commands read the newest.

sweeps/NAME/0001/record.json   the baseline in full, what the other points change, seeds, overrides
sweeps/NAME/0001/jobs/         job specs, logs and event log (ctt/execution/jobs)
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import time
from pathlib import Path
from typing import Any

from ctt.config import Config, as_dict, from_dict
from ctt.core.atomic_files import read_json, write_json
from ctt.core.errors import CttError, StoreError, SweepError, UsageError
from ctt.core.resources import LAUNCHERS
from ctt.core.secrets import masked
from ctt.models.plugins import check_plugins, plugins_of
from ctt.planning import Budget, Plan, compile_plan
from ctt.planning.costs import Costs
from ctt.setting_names import changed, differences, identity
from ctt.stages.auxiliary_stage import check_stage_plugins, stage_plugins_of
from ctt.stages.code_version import git_commit
from ctt.store import Store
from ctt.store.artifact import seal
from ctt.sweep import Point, Sweep, shipped
from ctt.sweep.compiling import labelled


def write(plan: Plan, store: Store, code: Path | None = None) -> Path:
    """Writes the next record of the sweep; returns its folder. code: the snapshot that the jobs run."""
    parent = store.sweeps_folder(plan.sweep.name)
    number = max((int(p.name) for p in parent.glob("[0-9]*") if p.name.isdigit()), default=0) + 1
    while True:
        folder = parent / f"{number:04d}"
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:  # another sweep of this name starts at the same moment
            number += 1
    (folder / "jobs").mkdir()
    sweep = plan.sweep
    record = {
        "name": sweep.name,
        "time": round(time.time(), 3),
        "source": sweep.source,
        "overrides": [masked(override) for override in sweep.overrides],
        "seeds": list(sweep.seeds),
        "written": sweep.written,
        "baseline": as_dict(sweep.baseline.config),
        "points": [
            {
                "label": p.label,
                "values": p.values,
                "baseline": p.baseline,
                "changes": differences(sweep.baseline.config, p.config),
            }
            for p in sweep.points
        ],
        "seconds": [round(seconds, 1) for seconds in Budget(plan, (), Costs(store.root)).seconds.values()],
        "git": git_commit(),
        "code": code and code.name,
        "launcher": sweep.baseline.config.launch.kind,
    }
    if plugin := LAUNCHERS.plugin(sweep.baseline.config.launch.kind):
        record["launcher_plugin"] = dataclasses.asdict(plugin)
    if stage_plugins := stage_plugins_of([stage for stages in plan.auxiliaries for stage in stages]):
        record["stage_plugins"] = stage_plugins
    plugins: dict[str, str] = {}
    for point in sweep.points:
        plugins |= plugins_of(point.config)
    record |= {"plugins": plugins} if plugins else {}
    record["seal"] = seal(json.loads(json.dumps(record)))
    write_json(folder / "record.json", record, durable=False, sort_keys=False, end="")
    return folder


def newest(store: Store, name: str) -> Path:
    """Folder of the newest record of sweep `name`. Raises UsageError, listing the recorded sweeps."""
    parent = Path(store.root) / "sweeps" / name
    records = [] if "/" in name else sorted(p for p in parent.glob("[0-9]*") if (p / "record.json").is_file())
    if not records:
        there = names(store)
        near = difflib.get_close_matches(Path(name).stem, there, 1)
        known = f"recorded there: {', '.join(there)}" if there else "none is recorded there yet"
        start = f"start it with `ctt sweep {name}`" if name in shipped() else "`ctt ls` lists the sweeps that can be started"
        remedy = f"did you mean {near[0]}?" if near else start
        raise UsageError(f"no sweep {name} in the store {store.root} ({known}); {remedy}")
    return records[-1]


def left_out(store: Store, sweep: Sweep) -> list[str]:
    """The points and seeds of the last record of this name that `sweep` has not: tables will not show them any more."""
    try:
        former = _fields(newest(store, sweep.name))
        same = identity(from_dict(former["baseline"]), but=("seed",)) == identity(sweep.baseline.config, but=("seed",))
        present = _changes_of(sweep) if same else {}
        points = [point["label"] for point in former["points"] if _changes(point["changes"]) not in present.values()]
        return points + [f"seed={seed}" for seed in former["seeds"] if seed not in sweep.seeds]
    except (CttError, ValueError, KeyError, TypeError):
        return []  # there is none, or it is damaged or of another version


def first_times(store: Store, plan: Plan) -> dict[tuple[str, int], int]:
    """{(point's label, seed): when the sweep first recorded it, in ms since 1970}, of the runs of a plan.

    A point of an earlier record is the same one if its baseline and what it changes of that are.
    """
    sweep, first = plan.sweep, dict[tuple[str, int], int]()
    wanted = _changes_of(sweep)
    baseline = identity(sweep.baseline.config, but=("seed",))
    for path in sorted((Path(store.root) / "sweeps" / sweep.name).glob("[0-9]*/record.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if identity(from_dict(record["baseline"]), but=("seed",)) != baseline:
                continue
            recorded = round(record.get("time", path.stat().st_mtime) * 1000)
            same = [p["label"] for p in record["points"] if wanted.get(p["label"]) == _changes(p["changes"])]
            for run in ((label, seed) for label in same for seed in record["seeds"]):
                first.setdefault(run, recorded)
        except (OSError, CttError, ValueError, KeyError, TypeError):
            continue  # damaged, or of another version: no run of the plan is in it
    return first


def _changes_of(sweep: Sweep) -> dict[str, str]:
    """{point's label: what it changes of the baseline}, as `_changes` of a record's points."""
    return {point.label: _changes(differences(sweep.baseline.config, point.config)) for point in sweep.points}


def _changes(changes: Any) -> str:
    return json.dumps(changes, sort_keys=True, default=str)


def names(store: Store) -> list[str]:
    """Names of the sweeps that have a record in the store."""
    root = Path(store.root) / "sweeps"
    return sorted(p.name for p in root.glob("*") if any(p.glob("[0-9]*/record.json")))


class JobLogs:
    """Finds the log of the newest job of a sweep whose target a stage is, else of one that builds it on the way, by the stage's
    key (as `ctt logs` does; a job's file lists all that it may have to build). A folder of jobs is listed again only
    where it has changed, and a job file is read once: there are thousands of both stages and jobs."""

    def __init__(self, store: Store, name: str) -> None:
        self._folder = Path(store.root) / "sweeps" / name
        self._listed: dict[Path, int] = {}
        self._read: set[Path] = set()
        self._targets: dict[str, Path] = {}
        self._on_the_way: dict[str, Path] = {}

    def __call__(self, key: str) -> Path | None:
        for folder in sorted(self._folder.glob("[0-9]*/jobs")):
            changed = folder.stat().st_mtime_ns
            if self._listed.get(folder) != changed:
                self._listed[folder] = changed
                self._take(folder)
        return self._targets.get(key) or self._on_the_way.get(key)

    def _take(self, folder: Path) -> None:
        new = [path for path in sorted(folder.glob("[0-9]*.json")) if path.stem.isdigit() and path not in self._read]
        self._read.update(new)
        jobs = [(path.with_suffix(".log"), read_json(path) or {}) for path in new]
        self._on_the_way |= {stage: log for log, job in reversed(jobs) for stage in job.get("stages", ())}
        self._targets |= {stage: log for log, job in jobs for stage in job.get("wanted", ())}


def code_of(folder: Path) -> str | None:
    """Name of the code snapshot that a record's jobs run; None if they run the installed code."""
    return _text_field(folder, "code")


def weights_of(folder: Path, plan: Plan) -> dict[str, float] | None:
    """Seconds by key that the stages of the record's plan were estimated to take when it was written, so that the share of the
    work that is done does not change with the estimates; None if the record lacks them."""
    seconds = _fields(folder).get("seconds", [])
    return dict(zip(plan.stages, map(float, seconds), strict=True)) if len(seconds) == len(plan.stages) else None


def launcher_of(folder: Path) -> str | None:
    """Name of the launcher that runs a record's jobs; None if the record does not have it (an old one)."""
    return _text_field(folder, "launcher")


def _text_field(folder: Path, name: str) -> str | None:
    """A field of a record; None if there is none, or no readable record."""
    value: str | None = _fields(folder).get(name)
    return value


def launcher_plugin_of(folder: Path) -> str:
    """The distribution that a record's launcher came from, such as "ctt-dask 1.0"; "": from ctt, or the record lacks it."""
    plugin: dict[str, str] = _fields(folder).get("launcher_plugin", {})
    return f"{plugin['distribution']} {plugin['version']}" if plugin else ""


def _fields(folder: Path) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return fields


def baseline_of(folder: Path) -> tuple[Config, list[str]]:
    """The baseline's settings in a record, and the command line's overrides. Raises StoreError if the file is damaged."""
    path = folder / "record.json"
    try:
        record = _whole(path)
        return from_dict(record["baseline"]), list(record["overrides"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is not a sweep's record ({error}); start the sweep again") from error


def _whole(path: Path) -> dict[str, Any]:
    """A record as it was written; those of ctt 0.1 have no seal. Raises ValueError if it is not."""
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if record.get("seal", seal(record)) != seal(record):
        raise ValueError("it does not match its seal")
    return record


def load(folder: Path) -> Plan:
    """The plan of a record, compiled anew from its resolved points. Raises StoreError if the file is damaged,
    SweepError if another version of ctt wrote it or a plugin of its settings is gone, UsageError if one of its stages is."""
    path = folder / "record.json"
    try:
        record = _whole(path)
        check_plugins(record.get("plugins", {}))
        baseline = from_dict(record["baseline"])
        points = tuple(Point(p["label"], p["values"], p["baseline"], changed(baseline, p["changes"])) for p in record["points"])
        if len({point.label for point in points}) < len(points):  # ctt 0.1 wrote values with six digits
            points = labelled(list(points))
        sweep = Sweep(
            name=record["name"],
            points=points,
            seeds=tuple(record["seeds"]),
            merged=(),
            written=record["written"],
            overrides=tuple(record["overrides"]),
            source=record["source"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is not a sweep's record ({error}); start the sweep again") from error
    except UsageError as error:
        raise SweepError(f"{path} was written with another ctt or other plugins: {error}; start the sweep again") from error
    check_stage_plugins(record.get("stage_plugins", {}), same_code=False)
    return compile_plan(sweep)
