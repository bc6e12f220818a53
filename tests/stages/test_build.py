"""`build`: builds what is missing once, inputs first; continues from the furthest state; records failures."""

import contextlib
import dataclasses
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ctt.core.build_context import BuildContext, read_metrics
from ctt.core.errors import DataError, Diverged, Interrupted, StageFailed, StoreError
from ctt.data.data_settings import DataSettings
from ctt.data.positions import reader_settings
from ctt.data.positions.reader_settings import PositionReaderSettings, resolved
from ctt.stages import code_version
from ctt.stages.base import Stage, build, seconds_of
from ctt.stages.data import Data
from ctt.stages.reader_fit import ReaderFit
from ctt.store import Store

CALLS: list[str] = []


@dataclasses.dataclass(frozen=True)
class Count(Stage):
    """Counts to `upto`; it can continue from every smaller count."""

    kind = "count"
    version = 1
    upto: int
    source: "Count | None" = None
    branch_at: tuple[int, ...] = ()
    fails: str = ""

    def settings(self) -> Mapping[str, Any]:
        return {"upto": self.upto}

    def inputs(self) -> Mapping[str, Stage]:
        return {"source": self.source} if self.source else {}

    def continues(self) -> list[Stage]:
        return [dataclasses.replace(self, upto=n) for n in range(self.upto - 1, 0, -1)]

    def branch_points(self) -> list[Stage]:
        return [dataclasses.replace(self, upto=n) for n in self.branch_at if n < self.upto][-1:]

    def build(self, context: BuildContext, inputs: Mapping[str, Any], start: Any) -> dict[str, Any]:
        first = start[0].upto if start else 0
        CALLS.append(f"{first}-{self.upto}")
        if self.fails == "diverged":
            raise Diverged("the loss is NaN in epoch 3")
        if self.fails:
            raise ZeroDivisionError("one over nothing")
        text = "".join(str(n) for n in range(first, self.upto))
        before = (start[1].path / "text").read_text() if start else ""
        (context.folder / "text").write_text(before + text)
        context.progress(self.upto, self.upto, "number")
        return {"first": first}


@pytest.fixture(autouse=True)
def forget() -> None:
    CALLS.clear()


def test_inputs_are_built_first_and_nothing_twice(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    target = Count(5, source=Count(2))
    assert build(target, store).path == build(target, store).path
    assert CALLS == ["0-2", "0-5"]


def test_the_furthest_state_is_continued(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    build(Count(2), store)
    build(Count(4), store)
    artifact = build(Count(7), store)
    assert CALLS == ["0-2", "2-4", "4-7"]
    assert artifact.file("text").read_text() == "0123456"
    assert artifact.manifest["started_from"] == Count(4).key


def test_branch_points_are_built_and_kept(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    build(Count(7, branch_at=(3,)), store)
    assert CALLS == ["0-3", "3-7"] and store.has(Count(3).key)


def test_the_key_does_not_depend_on_how_it_is_built(tmp_path: Path) -> None:
    assert Count(7).key == Count(7, branch_at=(3,)).key
    assert Count(7).key != Count(8).key
    assert Count(7, source=Count(1)).key != Count(7, source=Count(2)).key


def test_a_higher_version_is_another_key() -> None:
    class Newer(Count):
        version = 2

    assert Newer(7).key != Count(7).key


@pytest.mark.parametrize(
    "fails, failure, message",
    [
        ("diverged", "diverged", "the loss is NaN"),
        ("bug", "code error", "ZeroDivisionError: one over nothing"),
    ],
)
def test_a_failure_is_recorded_with_its_class_and_cleared_by_success(tmp_path: Path, fails, failure, message) -> None:
    store = Store.open(tmp_path / "s")
    with pytest.raises(StageFailed, match=message):
        build(Count(3, fails=fails), store)
    (record,) = store.failures(Count(3).key)
    assert record["failure"] == failure and message in record["message"]
    assert not store.has(Count(3).key)
    build(Count(3), store)
    assert store.failures(Count(3).key) == []


def test_two_builders_build_once(tmp_path: Path) -> None:
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(build(Count(6), Store.open(tmp_path / "s")).path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(CALLS) == 1 and len(set(paths)) == 1


def test_the_manifest_has_settings_inputs_and_provenance(tmp_path: Path) -> None:
    artifact = build(Count(5, source=Count(2)), Store.open(tmp_path / "s"))
    manifest = artifact.manifest
    assert manifest["settings"] == {"upto": 5} and manifest["inputs"] == {"source": Count(2).key}
    provenance = manifest["provenance"]
    assert provenance["ended"] >= provenance["began"] > 0
    assert {"git", "packages", "host", "device", "numerics", "python"} <= set(provenance)
    json.dumps(manifest)


@dataclasses.dataclass(frozen=True)
class CustomBuild(Stage):
    """Built by `attempt`, which is not part of its key."""

    kind = "custom"
    version = 1
    attempt: Callable[[BuildContext], None]

    def settings(self) -> Mapping[str, Any]:
        return {}

    def build(self, context: BuildContext, inputs: Mapping[str, Any], start: Any) -> dict[str, Any]:
        self.attempt(context)
        return {}


class Killed(BaseException):
    """In place of SIGKILL, after which nothing more is written."""


def test_changes_of_the_code_that_cannot_be_kept_are_an_error_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_version, "_recorded", dict)
    monkeypatch.setattr(code_version, "_diff", lambda: "a change")
    store = Store(tmp_path / "store")
    store.root.mkdir()
    (store.root / "diffs").write_text("")
    with pytest.raises(StoreError, match=r"cannot keep the changes of the code: .*diffs"):
        code_version.code_version(store)
    (store.root / "diffs").unlink()
    assert (store.root / "diffs" / str(code_version.code_version(store)["diff"])).read_text() == "a change\n"


def test_the_seconds_of_a_stage_are_the_sum_of_all_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a killed attempt, the time up to its last progress report counts; the artifact holds only the sum."""
    store, clock = Store.open(tmp_path / "s"), SimpleNamespace(now=1e9)
    for module in ("ctt.core.build_context", "ctt.stages.base"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(time=lambda: clock.now))
    reported: list[float] = []

    def attempt(report: float | None, end: float, error: BaseException | None) -> None:
        """Starts an hour after the last attempt, reports progress after `report` seconds and ends after `end` seconds."""

        def work(context: BuildContext) -> None:
            if report is not None:
                clock.now += report
                context.progress(1, 2, "step")
            clock.now += end - (report or 0.0)
            if error is not None:
                raise error

        clock.now += 3600.0
        build(CustomBuild(work), store, on_built=lambda stage, start, device, seconds: reported.append(seconds))

    with pytest.raises(Interrupted):
        attempt(report=None, end=7.0, error=Interrupted("before any progress report"))
    with pytest.raises(Interrupted):
        attempt(report=60.0, end=100.0, error=Interrupted("by a signal"))
    with monkeypatch.context() as killed, pytest.raises(Killed):
        killed.setattr(BuildContext, "timed", lambda context: contextlib.nullcontext())
        attempt(report=40.0, end=50.0, error=Killed())
    with pytest.raises(StageFailed):
        attempt(report=None, end=3.0, error=ZeroDivisionError())
    with monkeypatch.context() as full, pytest.raises(OSError, match="no space"):
        full.setattr(Store, "publish", lambda *_: (_ for _ in ()).throw(OSError("no space")))
        attempt(report=1.0, end=5.0, error=None)
    attempt(report=10.0, end=20.0, error=None)
    artifact = store.get(CustomBuild(lambda context: None).key)
    assert artifact is not None and list(artifact.manifest["files"]) == []
    provenance = artifact.manifest["provenance"]
    assert provenance["seconds"] == seconds_of(provenance) == 7 + 100 + 40 + 3 + 5 + 20
    assert provenance["ended"] - provenance["began"] == 20 and reported == [175]
    del provenance["seconds"]
    assert seconds_of(provenance) == 20, "older artifacts hold the last attempt only"


def test_metrics_survive_a_torn_line_and_are_rewound(tmp_path: Path) -> None:
    context = BuildContext(tmp_path)
    for step in (1, 2, 3):
        context.log(step, loss=1.0 / step)
    with open(tmp_path / "metrics.jsonl", "a") as f:
        f.write('{"t": 1, "step": 4, "lo')
    context.rewind(2)
    context.log(3, loss=0.5)
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path / "metrics.jsonl")] == [
        (1, 1.0),
        (2, 0.5),
        (3, 0.5),
    ]


def test_annotations_that_changed_since_planning_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "annotation_00000.json").write_text("{}")
    data = DataSettings(kind="clevrer", annotation_files=str(tmp_path))
    planned = ReaderFit(Data(data), resolved(PositionReaderSettings(), data), 32)
    reader_settings._digest.cache_clear()  # a job is another process
    (tmp_path / "annotation_00000.json").write_text("[]")
    with pytest.raises(DataError, match="the annotations changed since this run was planned"):
        planned.build(BuildContext(tmp_path / "job"), {}, None)
