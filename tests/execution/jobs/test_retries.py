"""Which failures are retried, and what counts as progress."""

from __future__ import annotations

from pathlib import Path

from ctt.config import compose
from ctt.execution.jobs.failures import Failure
from ctt.execution.jobs.retries import RETRIES, Attempt, reached, should_retry
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
