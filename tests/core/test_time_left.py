"""The time left is shown once there is something to go by, and follows what was measured without jumping."""

from __future__ import annotations

import pytest

from ctt.core import time_left
from ctt.core.time_left import TimeLeft


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time_left.time, "monotonic", lambda: now[0])
    return now


def test_nothing_is_shown_before_two_reports_with_progress(clock: list[float]) -> None:
    left = TimeLeft()
    assert left.report(0, 511e6) is None
    clock[0] += 0.5
    assert left.report(0, 511e6) is None and left.rate is None
    clock[0] += 0.5
    assert left.report(1e6, 511e6) == pytest.approx(510.0)


def test_work_that_continues_is_not_taken_for_speed(clock: list[float]) -> None:
    left = TimeLeft()
    assert left.report(9e9, 10e9) is None, "of an earlier attempt"
    clock[0] += 10
    assert left.report(9.1e9, 10e9) == pytest.approx(90.0)


def test_history_gives_the_time_at_once_and_measurement_takes_over(clock: list[float]) -> None:
    left = TimeLeft(600.0)
    assert left.report(0, 100) == pytest.approx(600.0)
    assert TimeLeft(600.0).report(50, 100) == pytest.approx(300.0)
    shown = []
    for step in range(1, 61):
        clock[0] += 5
        shown.append(left.report(step, 100))
    assert shown[-1] == pytest.approx(200.0, rel=0.1), "5 s a unit, where history had 6"


def test_a_pause_and_a_burst_are_smoothed(clock: list[float]) -> None:
    left = TimeLeft()
    left.report(0, 1000)
    for step in range(1, 61):
        clock[0] += 1
        before = left.report(step, 1000)
    clock[0] += 1
    burst = left.report(70, 1000)
    assert before is not None and burst is not None and 0.6 * before < burst < before
    for _ in range(3):
        clock[0] += 20
        stalled = left.report(70, 1000)
    assert stalled is not None and stalled > burst


def test_an_unknown_total_has_no_time(clock: list[float]) -> None:
    left = TimeLeft()
    left.report(0, 0)
    clock[0] += 1
    assert left.report(5, 0) is None and left.rate == 5.0
