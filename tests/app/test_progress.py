"""The time left of a sweep is shown once speed has been measured; it depends on what stages cost, not on their number."""

from __future__ import annotations

import re
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ctt.app import progress, progress_bars
from ctt.app.progress import Follower, StageStatus
from ctt.app.progress_bars import Bars, bar
from ctt.planning import Budget, Plan, compile_plan, costs
from ctt.store import Store
from ctt.sweep import compile_sweep


class Followed:
    """A follower of the demo on two devices whose stages and clock a test sets."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.plan: Plan = compile_plan(compile_sweep("demo"))
        self.shares: dict[str, float] = {}
        self.now = 1000.0
        patch.setattr(progress.time, "time", lambda: self.now)
        patch.setattr(progress, "stage_status", lambda store, stage, due: StageStatus("running", self.shares.get(stage.key, 0.0)))
        self.follower = Follower(self.plan, Store.open(root), Console(), 2)
        self.whole = Budget(self.plan).makespan(2)
        assert self.left() is None

    def left(self) -> float | None:
        return self.follower.left(self.follower.look()[0])


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Followed:
    return Followed(tmp_path / "store", monkeypatch)


def test_a_stage_that_runs_alone_does_not_distort_the_estimate_of_the_others(followed: Followed) -> None:
    """The data set is made before two jobs can run at once; the rest still takes its estimated time."""
    (data,) = [s for s in followed.plan.stages.values() if s.kind == "data"]
    seconds = Budget(followed.plan).seconds[data.key]
    for share in (0.0, 0.5, 1.0):
        followed.shares[data.key] = share
        followed.now = 1000.0 + share * seconds
        if share:
            assert followed.left() == pytest.approx(followed.whole - share * seconds)
    assert 5 * 60 < followed.whole - seconds < 12 * 60, "minutes, as the demo takes them"


@pytest.mark.parametrize("slower", [0.5, 1.0, 7.0])
def test_the_estimate_is_scaled_by_the_measured_speed(followed: Followed, slower: float) -> None:
    followed.shares = dict.fromkeys(followed.plan.stages, 0.25)
    followed.now += slower * 0.25 * followed.whole
    assert followed.left() == pytest.approx(slower * 0.75 * followed.whole)
    assert "ETA" in followed.follower.line().plain


def test_no_time_is_shown_before_speed_is_measured(followed: Followed) -> None:
    followed.shares = dict.fromkeys(followed.plan.stages, 0.02)
    followed.now += 60
    assert followed.left() is None and "ETA" not in followed.follower.line().plain
    assert "ETA" not in str(followed.follower.table().title)
    followed.shares = dict.fromkeys(followed.plan.stages, 1.0)
    assert followed.left() == 0 and "ETA" not in followed.follower.line().plain


def test_the_stores_history_gives_a_time_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = compile_plan(compile_sweep("demo"))
    store = Store.open(tmp_path / "store")
    store.root.mkdir()
    for stage in plan.stages.values():
        costs.record(store, stage, plan.start_of(stage), "cpu", 10.0)
    follower = Follower(plan, store, Console(), 2)
    monkeypatch.setattr(progress, "stage_status", lambda store, stage, due: StageStatus("waiting"))
    left = follower.left(follower.look()[0])
    assert left is not None and left == pytest.approx(Budget(plan, (), costs.Costs(store.root)).makespan(2))


class Shown(StringIO):
    def isatty(self) -> bool:
        return False


@pytest.mark.parametrize("done", [0, 5_000_000_000])
def test_a_line_of_progress_has_no_time_before_it_is_known(done: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first report once gave 141,944,444 h."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    console = Console(file=Shown(), width=200)
    with bar("f", console) as report:
        report(done, 9_000_000_000)
        now[0] += 11
        report(done, 9_000_000_000)
        now[0] += 11
        report(done + 200_000_000, 9_000_000_000)
    first, second = console.file.getvalue().splitlines()
    assert first == f"f: {'0 B' if not done else '5.0 GB'} of 9.0 GB"
    assert second.endswith("6 min 58 s left" if done else "16 min 8 s left")


def test_a_stage_has_no_time_before_its_second_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = compile_plan(compile_sweep("demo"))
    (stage,) = [s for s in plan.stages.values() if s.kind == "data"]
    console = Console(file=Shown(), width=200)
    monkeypatch.setattr(progress_bars.time, "time", iter(range(0, 10**6, 20)).__next__)
    reports = iter([dict(done=0.0, total=511.0, rate=0.0, unit="batch"), dict(done=1.0, total=511.0, rate=2.0, unit="batch")])
    monkeypatch.setattr(progress_bars, "read_progress", lambda store, key: next(reports))
    bars = Bars(Store.open(tmp_path / "store"), console)
    monkeypatch.setattr(bars.stop, "wait", lambda seconds: next(looks))
    looks = iter([False, False, True])
    bars.event("building", stage, "")
    bars._watch()
    lines = console.file.getvalue().splitlines()[1:]
    assert lines[0] == "data 0/511" and lines[1].startswith("data 1/511 2.0 batch/s, ")


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_table_fits_its_terminal_and_shortens_names_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    followed = Followed(tmp_path / "store", monkeypatch)
    plan = followed.plan
    states = {
        "data": StageStatus("done", 1.0),
        "world_model": StageStatus("running", 0.5),
        "reader": StageStatus("failed", message="x"),
    }
    monkeypatch.setattr(progress, "stage_status", lambda store, stage, due: states.get(stage.kind, StageStatus("waiting")))
    console = Console(width=width, record=True, file=StringIO())
    followed.follower.console = console
    console.print(followed.follower.table())
    shown = console.export_text()
    assert max(map(len, shown.splitlines())) <= width
    runs = [line for line in shown.splitlines() if re.search(r"seed=\d +done", line)]
    names = {re.split(r"  +", line.strip())[0] for line in runs}
    assert len(runs) == len(names) == len(plan.sweep.runs) + len(plan.prefixes)
    assert all("…" not in re.split(r"seed=\d", line)[1] for line in runs)
    assert width < 200 or {run.name for run in plan.sweep.runs} <= names
    assert shown.count("failed") == len(plan.sweep.runs) and "done" in shown and "━" in shown
    assert ("diagnostics" in shown) == (width == 200) and ("auxiliary" in shown) == (width < 200)


def test_a_line_with_no_stage_at_work_says_so(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"{len(followed.plan.stages)} running" in followed.follower.line().plain
    monkeypatch.setattr(progress, "stage_status", lambda store, stage, due: StageStatus("waiting", 0.0))
    assert followed.follower.line().plain.endswith("no stage running")
