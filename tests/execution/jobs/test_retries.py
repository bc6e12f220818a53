"""Which failures are tried again, and what counts as progress."""

from __future__ import annotations

from pathlib import Path

from ctt.config import compose
from ctt.execution.jobs.failures import Failure
from ctt.execution.jobs.retries import RETRIES, Attempt, again, reached
from ctt.plan import parts, target_of
from ctt.store import Store


def test_the_table_of_retries() -> None:
    """Node failure and preemption: yes. Code error: no. Timeout: while there was progress."""
    assert set(RETRIES) == set(Failure)
    for failure in Failure:
        once = [Attempt(failure, True)]
        never = failure in ("code error", "diverged", "out of memory", "blocked")
        assert again(once) is not never
        assert not again([Attempt(failure, False)] * 100)
    timeout, stuck = Attempt(Failure.TIMEOUT, True), Attempt(Failure.TIMEOUT, False)
    assert again([timeout] * 1000) and not again([timeout] * 1000 + [stuck])
    node, lost = Attempt(Failure.NODE_FAILURE, True), Attempt(Failure.NODE_FAILURE, False)
    assert again([lost, lost, lost]) and not again([lost] * 4) and again([lost, lost, node, lost, lost])
    assert not again([node] * 11)
    assert again([stuck, lost]), "what another class took is not held against this one"
    assert not again([node, Attempt(Failure.CODE_ERROR, True)])


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
        (store.work_folder(stage.key) / "state.json").touch()  # trained: what comes after it counts as further
        look()
        (store.work_folder(stage.key) / "checkpoint" / "999999-000000000.tmp").mkdir()
        assert reached(store, keys) == seen[-1], "a checkpoint cut off in the middle is none"
        with store.lease(stage.key) as lease:
            folder = store.work_folder(stage.key)
            store.publish(stage.key, folder, lease, stage.describe())
        look()
    assert seen[-1] == (2, "")
