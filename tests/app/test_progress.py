"""The time left of a sweep is shown once speed has been measured; it depends on what stages cost, not on their number."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ctt.app import progress
from ctt.app.progress import Follower, StageStatus
from ctt.planning import Budget, Plan, compile_plan
from ctt.store import Store
from ctt.sweep import compile_sweep


class Followed:
    """A follower of the demo on two devices whose stages and clock a test sets."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.plan: Plan = compile_plan(compile_sweep("demo"))
        self.shares: dict[str, float] = {}
        self.now = 1000.0
        patch.setattr(progress.time, "time", lambda: self.now)
        patch.setattr(progress, "stage_status", lambda store, stage: StageStatus("running", self.shares.get(stage.key, 0.0)))
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


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_table_fits_its_terminal_and_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    followed = Followed(tmp_path / "store", monkeypatch)
    plan = followed.plan
    states = {
        "data": StageStatus("done", 1.0),
        "world_model": StageStatus("running", 0.5),
        "reader": StageStatus("failed", message="x"),
    }
    monkeypatch.setattr(progress, "stage_status", lambda store, stage: states.get(stage.kind, StageStatus("waiting")))
    console = Console(width=width, record=True, file=StringIO())
    followed.follower.console = console
    console.print(followed.follower.table())
    shown = console.export_text()
    assert "…" not in shown and max(map(len, shown.splitlines())) <= width
    named = [run.name.split() for run in plan.sweep.runs]
    assert all(word in shown for words in named for word in words)
    assert shown.count("failed") == len(plan.sweep.runs) and "done" in shown and "━" in shown
    assert ("diagnostics" in shown) == (width == 200) and ("auxiliary" in shown) == (width < 200)
