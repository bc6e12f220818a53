"""What faults are injected into: each stage of a real sweep, the import of slots, the view in MLflow, and `ctt gc`."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from rich.console import Console

from ctt.app.gc import collect
from ctt.data.clevrer.slots_import import import_slots
from ctt.planning import Plan, compile_plan
from ctt.report.writers import render
from ctt.stages.base import Stage, build
from ctt.store import Store
from ctt.store.artifact import DamagedArtifact
from ctt.study.study import Study
from ctt.study.tracked_sweep import store_syncer
from ctt.sweep import compile_sweep
from ctt.tracking.tracking_settings import database_path
from tests.data.clevrer.official_files import slots_tree, write_pickle
from tests.models.literal_world_model import LiteralPredictor
from tests.tiny import TINY_ONE_SEED, artifacts
from tests.tracking.made_up_runs import SQLITE, rows

KINDS = ("data", "world_model", "rollout", "vqa", "diagnostics", "probe", "reader")
EXPIRY = 0.6  # seconds without a heartbeat after which a lease is taken over


@cache
def plan() -> Plan:
    """The sweep whose stages are disturbed: a shared prefix and two runs."""
    return compile_plan(compile_sweep(TINY_ONE_SEED[0], TINY_ONE_SEED[1:]))


@dataclasses.dataclass
class Sources:
    """Prepared stores: of the sweep (one_seed), of twice as many runs (sweep), and with an MLflow database (database)."""

    one_seed: Path
    sweep: Path
    database: Path
    tables: dict[Path, str] = dataclasses.field(default_factory=dict)

    files: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

    def undisturbed(self, scenario: OneStage) -> dict[str, str]:
        """The hashes of the files of a stage that was built without a fault."""
        if scenario.name not in self.files:
            with tempfile.TemporaryDirectory() as folder:
                scenario.make(Path(folder), self)
                scenario.act(Path(folder))
                self.files[scenario.name] = artifacts(Path(folder) / "store")[scenario.stage.key]
        return self.files[scenario.name]

    def table(self) -> str:
        """The bytes that a report of the undisturbed store has."""
        if self.one_seed not in self.tables:
            self.tables[self.one_seed] = table(self.one_seed)
        return self.tables[self.one_seed]


class Scenario:
    """Something that is disturbed. `make` prepares a folder; `act` is what a fault hits, and is done again after it; `check`
    is what holds then."""

    name: str
    leased = True
    """Whether one process at a time does it, by a lease."""

    def make(self, folder: Path, sources: Sources) -> None:
        raise NotImplementedError

    def act(self, folder: Path, expiry: float = 60.0) -> None:
        raise NotImplementedError

    def check_disturbed(self, folder: Path) -> None:
        """What holds before it is done again: nothing is half-read."""

    def check(self, folder: Path, sources: Sources) -> None:
        raise NotImplementedError


def store_of(folder: Path, expiry: float = 60.0) -> Store:
    return Store(folder / "store", heartbeat=min(5.0, expiry / 8), expiry=expiry)


def linked(store: Path, to: Path, without: str = "") -> None:
    """A copy of a store by hard links, without the artifact of a key: files of artifacts are never written again."""

    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name in ("leases", "work", "failures", "tracking", without)]

    shutil.copytree(store, to, ignore=ignored, copy_function=os.link)


def table(store: Path) -> str:
    """What `ctt report` has of the sweep, as JSON with everything, and as text."""
    found = Study(TINY_ONE_SEED[0], store).comparison
    return render(found, "json") + render(found, "md")


@dataclasses.dataclass(frozen=True)
class OneStage(Scenario):
    """The last stage of a kind in the sweep; the first, which is shared, with `first`."""

    kind: str
    first: bool = False

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.kind}, shared" if self.first else self.kind

    @property
    def stage(self) -> Stage:
        return [stage for stage in plan().stages.values() if stage.kind == self.kind][0 if self.first else -1]

    def make(self, folder: Path, sources: Sources) -> None:
        linked(sources.one_seed, folder / "store", without=self.stage.key)

    def act(self, folder: Path, expiry: float = 60.0) -> None:
        built = []
        build(self.stage, store_of(folder, expiry), on_event=lambda what, stage, _: built.append((what, stage.key)))
        assert {key for what, key in built if what == "building"} <= {self.stage.key}, "something was built twice"

    def check_disturbed(self, folder: Path) -> None:
        store = store_of(folder)
        if store.has(self.stage.key):
            assert store.verify(self.stage.key) == []
        table(store.root)

    def check(self, folder: Path, sources: Sources) -> None:
        store = store_of(folder)
        assert artifacts(store.root) == artifacts(sources.one_seed)
        assert store.unfinished(self.stage.key) is None and store.failures(self.stage.key) == []
        assert table(store.root) == sources.table()
        before = store.path(self.stage.key).stat().st_ino
        self.act(folder)
        assert store.path(self.stage.key).stat().st_ino == before, "built twice"


@cache
def imagining() -> Plan:
    """The same sweep, whose ALOE also sees imagined videos: its world models and data are those of `plan`."""
    return compile_plan(compile_sweep(TINY_ONE_SEED[0], [*TINY_ONE_SEED[1:], "aloe.rollout_frames=counterfactual"]))


@cache
def importing() -> Plan:
    """The same sweep with the weights of a file as its world model, of the shape that the sweep trains."""
    FOLDERS.append(folder := tempfile.TemporaryDirectory())
    torch.manual_seed(4)
    torch.save(LiteralPredictor(3, 4, 2, 4, 256, 128).state_dict(), file := f"{folder.name}/weights.ckpt")
    return compile_plan(compile_sweep(TINY_ONE_SEED[0], [*TINY_ONE_SEED[1:], f"world_model.checkpoint={file}"]))


FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
"""They last as long as this process."""


@dataclasses.dataclass(frozen=True)
class StageOfAnother(OneStage):
    """A stage that only another sweep has, in a store with the artifacts of `plan`."""

    another: Callable[[], Plan] = imagining

    @property
    def stage(self) -> Stage:
        return [stage for stage in self.another().stages.values() if stage.kind == self.kind][-1]

    def make(self, folder: Path, sources: Sources) -> None:
        linked(sources.one_seed, folder / "store")
        for needed in self.stage.inputs().values():
            build(needed, store_of(folder))

    def check(self, folder: Path, sources: Sources) -> None:
        store, key = store_of(folder), self.stage.key
        assert store.verify(key) == [] and store.unfinished(key) is None and store.failures(key) == []
        found = artifacts(store.root)
        assert found[key] == sources.undisturbed(self)
        assert {name: files for name, files in found.items() if name in artifacts(sources.one_seed)} == artifacts(sources.one_seed)
        before = store.path(key).stat().st_ino
        self.act(folder)
        assert store.path(key).stat().st_ino == before, "built twice"


class Import(Scenario):
    """`ctt data import` of a pickle of slots."""

    name = "import"
    leased = False

    def make(self, folder: Path, sources: Sources) -> None:
        tree = slots_tree({"train": 12, "val": 6, "test": 3})
        write_pickle(folder / "slots.pkl", tree, 4)
        import_slots(folder / "slots.pkl", folder / "whole")

    def act(self, folder: Path, expiry: float = 60.0) -> None:
        import_slots(folder / "slots.pkl", folder / "slots")

    def check(self, folder: Path, sources: Sources) -> None:
        whole, slots = folder / "whole", folder / "slots"
        assert sorted(os.listdir(slots)) == sorted(os.listdir(whole))
        for path in slots.glob("*.npy"):
            assert path.read_bytes() == (whole / path.name).read_bytes()


class Sync(Scenario):
    """One pass of `ctt sync`."""

    name = "sync"

    def make(self, folder: Path, sources: Sources) -> None:
        linked(sources.one_seed, folder / "store")
        shutil.copytree(sources.database, folder / "store", dirs_exist_ok=True)

    def act(self, folder: Path, expiry: float = 60.0) -> None:
        syncer = store_syncer(SQLITE, store_of(folder, expiry))
        while syncer.sync_once():
            pass

    def check(self, folder: Path, sources: Sources) -> None:
        question = "SELECT name, key, step, value FROM metrics JOIN runs USING (run_uuid) ORDER BY 1, 2, 3, 4"
        found = rows(database_path(folder / "store"), question)
        assert len(found) == len(set(row[:3] for row in found)), "a point stands twice"
        names = [name for (name,) in rows(database_path(folder / "store"), "SELECT name FROM runs")]
        assert len(names) == len(set(names)), "a run stands twice"
        expected = sources.tables.get(Path("sync"))
        sources.tables.setdefault(Path("sync"), repr(found))
        assert len(found) > 50 and expected in (None, repr(found))
        assert table(folder / "store") == sources.table()


class Gc(Scenario):
    """`ctt gc` where half of the artifacts belong to no recorded sweep."""

    name = "gc"

    def make(self, folder: Path, sources: Sources) -> None:
        linked(sources.sweep, folder / "store")
        shutil.rmtree(folder / "store" / "sweeps")
        shutil.copytree(sources.one_seed / "sweeps", folder / "store" / "sweeps", symlinks=True)

    def act(self, folder: Path, expiry: float = 60.0) -> None:
        collect(store_of(folder, expiry), rollouts=False, yes=True, console=Console(file=io.StringIO()))

    def check_disturbed(self, folder: Path) -> None:
        with warnings.catch_warnings(action="error", category=DamagedArtifact):
            for key in store_of(folder).keys():  # noqa: SIM118  # a method of the store
                assert store_of(folder).verify(key) == []

    def check(self, folder: Path, sources: Sources) -> None:
        assert artifacts(folder / "store") == artifacts(sources.one_seed)
        assert table(folder / "store") == sources.table()


SCENARIOS: dict[str, Scenario] = {
    one.name: one
    for one in (
        *(OneStage(kind) for kind in KINDS),
        OneStage("world_model", first=True),
        *(StageOfAnother(kind) for kind in ("removed", "imagined")),
        StageOfAnother("world_model_error", another=importing),
        Import(),
        Sync(),
        Gc(),
    )
}
