"""Which failures are retried, and what counts as progress."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ctt.config import compose
from ctt.execution.jobs import retries
from ctt.execution.jobs.failures import Failure
from ctt.execution.jobs.retries import LONGEST, RETRIES, Attempt, Attempts, pause, reached, should_retry
from ctt.execution.jobs.spec import JobSpec
from ctt.planning import parts, target_of
from ctt.store import Store


def test_the_table_of_retries() -> None:
    """Node failure and preemption: yes. Code error: no. Timeout: as long as the job makes progress."""
    assert set(RETRIES) == set(Failure)
    for failure in Failure:
        once = [Attempt(failure, True)]
        never = failure in ("code error", "diverged", "out of memory", "disk full", "blocked")
        assert should_retry(once) is not never
        assert not should_retry([Attempt(failure, False)] * 100)
    timeout, stuck = Attempt(Failure.TIMEOUT, True), Attempt(Failure.TIMEOUT, False)
    assert should_retry([timeout] * 1000) and not should_retry([timeout] * 1000 + [stuck])
    node, lost = Attempt(Failure.NODE_FAILURE, True), Attempt(Failure.NODE_FAILURE, False)
    assert should_retry([lost] * 3) and not should_retry([lost] * 4)
    assert should_retry([lost, lost, node, lost, lost])
    assert not should_retry([node] * 11)
    assert should_retry([stuck, lost]), "attempts of another class do not count"
    assert not should_retry([node, Attempt(Failure.CODE_ERROR, True)])


def test_progress_is_finished_stages_and_checkpoints_on_disk(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    target = target_of(compose(["data=mini"]), (3,))
    state = target.rollout.state
    keys = [stage.key for stage in parts(target)]
    seen = [reached(store, keys)]

    def look() -> None:
        seen.append(reached(store, keys))
        assert seen[-1] > seen[-2]

    for stage, checkpoints in ((state.at(3), ("000000-000000004", "000002-000000000")), (state, ("000003-000000001",))):
        for name in checkpoints:
            (store.work_folder(stage.key) / "checkpoint" / name).mkdir(parents=True)
            look()
        (store.work_folder(stage.key) / "state.json").touch()  # trained: more progress than any checkpoint
        look()
        (store.work_folder(stage.key) / "checkpoint" / "999999-000000000.tmp").mkdir()
        assert reached(store, keys) == seen[-1], "an unfinished checkpoint does not count"
        with store.lease(stage.key) as lease:
            folder = store.work_folder(stage.key)
            store.publish(stage.key, folder, lease, stage.describe())
        look()
    assert seen[-1] == (2, "")


def test_the_pause_doubles_with_each_attempt_in_vain_and_differs_by_class() -> None:
    lost, moved = Attempt(Failure.NODE_FAILURE, False), Attempt(Failure.NODE_FAILURE, True)
    first = RETRIES[Failure.NODE_FAILURE].pause
    assert [pause([lost] * n) for n in (1, 2, 3)] == [first, 2 * first, 4 * first]
    assert pause([lost, lost, moved]) == first and pause([lost, moved, lost, lost]) == 2 * first
    assert pause([Attempt(Failure.PREEMPTED, False)] * 1000) == LONGEST
    assert pause([lost, lost, Attempt(Failure.KILLED, False)]) == RETRIES[Failure.KILLED].pause < first
    assert pause([Attempt(Failure.TIMEOUT, True)]) == 0, "the next attempt continues at once"
    assert all(rule.pause > 0 for failure, rule in RETRIES.items() if rule.times != 0 and failure != Failure.TIMEOUT)


def test_attempts_that_another_launcher_has_recorded_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(retries.time, "monotonic", lambda: now)
    job = JobSpec(7, tmp_path / "0007.json", "x", "f" * 64, frozenset(), ("f" * 64,), ("f" * 64,))
    first = RETRIES[Failure.KILLED].pause
    event = {"event": "retried", "number": 7, "class": "killed", "progressed": False, "time": time.time() - first + 1}
    attempts = Attempts(Store.open(tmp_path))
    attempts.recall([event, {**event, "number": 8}, {**event, "event": "started"}])
    attempts.begin(job)
    assert attempts.paused(job), "a second is left"
    now += 2
    assert not attempts.paused(job)
    assert not attempts.retry_after(job, Failure.KILLED), "the second time without progress"
    other = Attempts(Store.open(tmp_path))
    other.recall([{**event, "number": 3, "time": time.time() + 86400}], {3: 7})
    now += first - 0.1
    assert other.paused(job)
    now += 0.2
    assert not other.paused(job), "no longer than its pause, should the clocks differ by a day"
