"""Record: what `ctt sweep` resolved and submitted, kept in the store's sweeps/NAME; status and report read the newest.

sweeps/NAME/0001/record.json   points, seeds, overrides and the keys of every run's stages
sweeps/NAME/0001/jobs/007.json a frozen job: all that the process running it needs to know
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctt import costs
from ctt.config import from_dict
from ctt.errors import CttError, Interrupted, StageFailed, StoreError, SweepError, UsageError
from ctt.plan import Job, Plan, compile_plan, sides_of, target_of
from ctt.stages.base import Stage, build, git_commit
from ctt.store import Store
from ctt.sweep import Point, Sweep


def write(plan: Plan, store: Store) -> Path:
    """Writes the next record of the sweep; returns its folder."""
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
        "source": sweep.source,
        "overrides": list(sweep.overrides),
        "seeds": list(sweep.seeds),
        "written": sweep.written,
        "points": [
            {
                "label": p.label,
                "values": p.values,
                "baseline": p.baseline,
                "config": dataclasses.asdict(p.config),
            }
            for p in sweep.points
        ],
        "git": git_commit(),
    }
    _write_json(folder / "record.json", record)
    return folder


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")
    os.replace(temporary, path)


def newest(store: Store, name: str) -> Path:
    """Folder of the newest record of sweep `name`. Raises UsageError naming the sweeps that are there."""
    parent = store.sweeps_folder(name)
    records = sorted(p for p in parent.glob("[0-9]*") if (p / "record.json").is_file())
    if not records:
        there = names(store)
        known = f"recorded there: {', '.join(there)}" if there else "none is recorded there yet"
        raise UsageError(f"no sweep {name} in the store {store.root} ({known}); start it with `ctt sweep {name}`")
    return records[-1]


def names(store: Store) -> list[str]:
    """Names of the sweeps that have a record in the store."""
    root = Path(store.root) / "sweeps"
    return sorted(p.name for p in root.glob("*") if any(p.glob("[0-9]*/record.json")))


def load(folder: Path) -> Plan:
    """The plan of a record, compiled anew from its resolved points. Raises StoreError where the file is damaged."""
    path = folder / "record.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        points = tuple(Point(p["label"], p["values"], p["baseline"], from_dict(p["config"])) for p in record["points"])
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
        raise SweepError(f"{path} was written by another version of ctt: {error}; start the sweep again") from error
    return compile_plan(sweep)


def freeze(job: Job, store: Store, path: Path) -> None:
    """Writes the job so that nothing edited afterwards can change it."""
    _write_json(
        path,
        {
            "store": str(Path(store.root).resolve()),
            "label": job.label,
            "target": job.target.key,
            "kind": job.target.kind,
            "epoch": getattr(job.target, "epoch", None),
            "fork_epochs": list(job.fork_epochs),
            "config": dataclasses.asdict(job.config),
            "teacher": job.teacher
            and {"config": dataclasses.asdict(job.teacher[0]), "fork_epochs": list(job.teacher[1])},
        },
    )


def run_frozen(path: Path) -> dict[str, Any]:
    """Builds the target of a frozen job, then what is beside it; never raises CttError.

    Returns {"target", "label", "failure": None | class, "message", "beside": {kind: message}}: a side that fails is told
    of there and leaves the job a success, unless a signal stopped it: then the job has to go on. The failure is in the
    store and in the returned record; raising would make Hydra's launchers abandon the other jobs.
    """
    frozen = json.loads(path.read_text(encoding="utf-8"))
    mark = path.with_suffix(".pid")
    mark.write_text(f"{os.getpid()} {_started(os.getpid())} {platform.node()}", encoding="utf-8")
    outcome = {"target": frozen["target"], "label": frozen["label"], "failure": None, "message": "", "beside": {}}
    try:
        target, sides = thaw(frozen)
        if target.key != frozen["target"]:
            raise StoreError(f"{path}: the code of ctt changed since this job was submitted; start the sweep again")
        device = frozen["config"]["device"]
        store = Store.open(frozen["store"])
        more: Any = dict(device=device, on_event=_say, on_built=lambda *built: costs.record(store, *built))
        build(target, store, **more)
        outcome["beside"] = build_sides(sides, store, **more)
    except StageFailed as error:
        outcome |= {"failure": error.failure, "message": str(error)}
    except CttError as error:
        outcome |= {"failure": "code error", "message": str(error)}
    finally:
        mark.unlink(missing_ok=True)
    if outcome["failure"]:
        print(f"ctt: {outcome['label']}: {outcome['failure']}: {outcome['message']}", flush=True)
    for kind, message in outcome["beside"].items():
        print(f"ctt: {outcome['label']}: {kind} failed, the answers are complete: {message}", flush=True)
    return outcome


def build_sides(sides: Sequence[Stage], store: Store, **more: Any) -> dict[str, str]:
    """Builds stages beside a target; {kind: message} of those that failed. Raises Interrupted if a signal stopped one."""
    failed = {}
    for side in sides:
        try:
            build(side, store, **more)
        except Interrupted:
            raise
        except CttError as error:
            failed[side.kind] = str(error)
    return failed


def running_pid(mark: Path) -> int | None:
    """Process id of the job that wrote `mark`, if it runs on this host still (a recycled id does not count)."""
    try:
        pid, started, host = mark.read_text(encoding="utf-8").split()
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if host == platform.node() and started == _started(int(pid)) else None


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks; "gone" if there is none of that id, or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return "gone"
    return "gone" if fields[0] == "Z" else fields[19]


def thaw(frozen: dict[str, Any]) -> tuple[Stage, tuple[Stage, ...]]:
    """The target a frozen job describes, and its sides."""
    teacher = frozen["teacher"] and target_of(
        from_dict(frozen["teacher"]["config"]), tuple(frozen["teacher"]["fork_epochs"])
    )
    config = from_dict(frozen["config"])
    target = target_of(config, tuple(frozen["fork_epochs"]), teacher)
    if frozen["kind"] == "world_model":
        return target.rollout.state.at(frozen["epoch"]), ()
    return target, sides_of(config, target)


_said: set[tuple[str, str]] = set()


def _say(what: str, stage: Stage, detail: str) -> None:
    if what != "cached" and (what, stage.key) not in _said:
        _said.add((what, stage.key))
        print(f"ctt: {what} {stage.kind} {stage.key[:12]} {detail}".rstrip(), flush=True)
