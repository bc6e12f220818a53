"""Prepared stores: what many tests begin with, made once a session by the first test that needs it, and copied by the others."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from ctt.planning import compile_plan
from ctt.stages.base import build
from ctt.store import Store
from ctt.sweep import compile_sweep
from ctt.tracking.database import prepare_database
from tests.tiny import TINY, TINY_ONE_SEED, TINY_SWEEP, ctt


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


def with_one_seed(store: Path, sweep: Path) -> None:
    """Makes a store that holds the stages of the tiny sweep's first seed, from a store that has them, and its record."""
    stages = compile_plan(compile_sweep(TINY_ONE_SEED[0], TINY_ONE_SEED[1:])).stages
    copy_artifacts(sweep, store, stages)
    ctt(store, "sweep", *TINY_ONE_SEED, "tracking=off")


def with_database(store: Path) -> None:
    """Makes a store with an MLflow database: MLflow takes seconds to make its tables."""
    prepare_database(store)


def copy_artifacts(store: Path, to: Path, keys: Collection[str] | None = None) -> Path:
    """Copies the finished artifacts of a store to another one, all or those of some keys; returns the other one."""
    for manifest in store.glob("artifacts/*/*/manifest.json"):
        if keys is None or manifest.parent.name in keys:
            shutil.copytree(manifest.parent, to / manifest.parent.relative_to(store))
    return to
