"""Prepared stores: what many tests begin with, made once a session by the first test that needs it, and copied by the others."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ctt.plan import compile_plan
from ctt.stages.base import build
from ctt.store import Store
from ctt.sweep import compile_sweep
from ctt.tracking import prepare_database
from tests.tiny import TINY, TINY_SWEEP, ctt


def once(folder: Path, name: str, make: Callable[[Path], object]) -> Path:
    """The path `folder/name`, after `make` has made it in this process or in another one; at most one makes it at a time."""
    path, done = folder / name / "store", folder / name / "done"
    done.parent.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(path, ignore_errors=True)
            make(path)
            done.touch()
    return path


def with_data(store: Path) -> None:
    """Makes a store that holds the data set of the tiny sweep, and nothing else."""
    [data] = (stage for stage in compile_plan(compile_sweep("demo", TINY)).stages.values() if stage.kind == "data")
    build(data, Store.open(store))


def with_sweep(store: Path) -> None:
    """Makes a store in which the tiny sweep has run by `inproc`, from nothing."""
    ctt(store, "sweep", *TINY_SWEEP)


def with_database(store: Path) -> None:
    """Makes a store with an MLflow database: MLflow takes seconds to make its tables."""
    prepare_database(store)


def copy_artifacts(store: Path, to: Path, kinds: Sequence[str] = ()) -> Path:
    """Copies the finished artifacts of a store to another one, all or those of some kinds; returns the other one."""
    for manifest in store.glob("artifacts/*/*/manifest.json"):
        if not kinds or json.loads(manifest.read_text())["kind"] in kinds:
            shutil.copytree(manifest.parent, to / manifest.parent.relative_to(store))
    return to
