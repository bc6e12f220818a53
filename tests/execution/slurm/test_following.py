"""What a launcher does about each job that SLURM tells of, keeps silent about, refuses, holds or loses."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctt.core.errors import UsageError
from ctt.execution.jobs import event_log
from ctt.execution.slurm import arrays
from ctt.execution.slurm import slurm_launcher as slurm_module
from tests.execution.slurm.fake_slurm import FakeSlurm, Queued, key, launcher, look, publish, record, says, story


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(monkeypatch)


def test_what_needs_a_blocked_job_is_blocked_too(slurm: FakeSlurm, tmp_path: Path) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: [], 1: [0], 2: [1]}))
    follower.submit()
    assert slurm.dependencies == {100: "", 101: "afterok:100_0", 102: "afterok:101_0"}
    follower.alive[0].moved = 0.0
    says(follower, 0, "diverged")
    slurm.queue.clear()
    slurm.accounts = {"101_0": "CANCELLED|Dependency|", "102_0": "CANCELLED|Dependency|"}
    look(follower)
    assert story(follower) == [(0, "ended", "diverged"), (1, "ended", "blocked"), (2, "ended", "blocked")]
    assert len(slurm.dependencies) == 3, "nothing was submitted again"
    assert not follower.alive and not follower.waiting


def test_what_fails_beside_a_target_leaves_the_job_a_success_where_there_is_no_accounting(
    slurm: FakeSlurm, tmp_path: Path
) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: []}, wanted=[key(9)]))
    slurm.silent.add("sacct")
    follower.submit()
    slurm.queue["100_0"].state = "RUNNING"
    follower.look()
    publish(follower, 0)
    says(follower, 0, None, beside={"look": "DataError: nothing"})
    slurm.queue.clear()
    look(follower)
    assert story(follower) == [(0, "started", None), (0, "ended", None)]


def test_one_that_is_killed_while_it_makes_what_is_beside_its_target_is_tried_again(
    slurm: FakeSlurm, tmp_path: Path
) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: []}, wanted=[key(9)]))
    follower.submit()
    publish(follower, 0)
    slurm.queue.clear()
    look(follower)
    assert story(follower) == [(0, "retried", "killed")] and len(slurm.dependencies) == 2


# Refusals


def test_what_another_record_has_in_the_queue_is_followed_whatever_its_code(slurm: FakeSlurm, tmp_path: Path) -> None:
    first = launcher(tmp_path, record(tmp_path, 1, {0: [], 1: []}))
    first.submit()
    (first.record / "record.json").write_text('{"code": "what was there before an edit"}')
    del slurm.queue["100_1"]
    second = launcher(tmp_path, record(tmp_path, 2, {0: [], 1: [], 2: []}))
    second.submit()
    assert second.alive[0].id == "100_0" and {second.alive[1].id, second.alive[2].id} == {"101_0", "101_1"}
    first.by_number[0].log.unlink()
    first.by_number[0].log.write_text("from step 3\n")
    says(first, 0, "code error")
    assert second.by_number[0].log.read_text() == "from step 3\n"
    slurm.queue.clear()
    look(second)
    assert (0, "ended", "code error") in story(second), "its word is heard there"


def test_a_job_that_wants_more_than_the_one_in_the_queue_is_submitted(slurm: FakeSlurm, tmp_path: Path) -> None:
    launcher(tmp_path, record(tmp_path, 1, {0: []})).submit()
    second = launcher(tmp_path, record(tmp_path, 2, {0: []}, wanted=[key(9)]))
    second.submit()
    assert second.alive[0].id == "101_0"


def test_nothing_is_submitted_while_it_is_not_known_what_the_queue_has(slurm: FakeSlurm, tmp_path: Path) -> None:
    launcher(tmp_path, record(tmp_path, 1, {0: []})).submit()
    second = launcher(tmp_path, record(tmp_path, 2, {0: []}))
    slurm.silent.add("squeue")
    with pytest.raises(UsageError, match="squeue"):
        second.submit()
    assert list(slurm.dependencies) == [100] and not slurm.cancelled()


def test_a_refusal_at_the_start_ends_what_was_just_submitted_and_nothing_else(slurm: FakeSlurm, tmp_path: Path) -> None:
    launcher(tmp_path, record(tmp_path, 1, {0: []})).submit()
    second = launcher(tmp_path, record(tmp_path, 2, {0: [], 1: [], 2: [1]}))
    slurm.refusals = [None, UsageError("sbatch refused the jobs: invalid qos")]
    with pytest.raises(UsageError, match="invalid qos"):
        second.submit()
    assert slurm.cancelled() == ["101_0"] and list(slurm.queue) == ["100_0"]


def test_an_array_that_slurm_took_though_sbatch_failed_does_not_stay_beside_the_next(
    slurm: FakeSlurm, tmp_path: Path
) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: []}))
    follower.submit()
    says(follower, 0, "killed")
    slurm.queue.clear()
    logs = follower.record / "slurm"
    slurm.refusals = [UsageError("sbatch refused the jobs: Socket timed out on send/recv operation")]
    with pytest.raises(UsageError, match="timed out"):
        look(follower)
    slurm.queue["77_0"] = Queued(script=str(logs / ".submission_file_1.sh"))
    slurm.queue["78_0"] = Queued(script=str(tmp_path / "another record" / "slurm" / ".submission_file_2.sh"))
    slurm.silent.add("squeue")
    with pytest.raises(UsageError, match="not known"):
        follower._submit()
    assert list(slurm.dependencies) == [100], "not as long as it is not known"
    slurm.silent.clear()
    follower._submit()
    assert slurm.cancelled() == ["77"] and list(slurm.queue) == ["78_0", "101_0"]


def test_arrays_are_no_longer_than_the_cluster_allows(slurm: FakeSlurm, tmp_path: Path) -> None:
    slurm.longest = 2
    follower = launcher(tmp_path, record(tmp_path, 1, {number: [] for number in range(5)}))
    follower.submit()
    assert list(slurm.queue) == ["100_0", "100_1", "101_0", "101_1", "102_0"]


def test_where_a_user_may_have_few_jobs_the_others_follow_when_there_is_room(slurm: FakeSlurm, tmp_path: Path) -> None:
    jobs = record(tmp_path, 1, {number: [] for number in range(5)})
    full = arrays.NoRoom("sbatch refused the jobs: QOSMaxSubmitJobPerUserLimit")
    slurm.refusals = [full]
    with pytest.raises(UsageError, match="QOSMaxSubmit"):
        launcher(tmp_path, jobs).submit()  # nobody follows
    follower = launcher(tmp_path, jobs)
    slurm.refusals = [full]
    follower.submit(patient=True)
    assert not slurm.queue
    slurm.refusals = [None, full]
    with pytest.raises(arrays.NoRoom):
        follower._submit()
    assert list(slurm.queue) == ["100_0", "100_1"]
    follower._submit()
    assert set(follower.alive) == set(range(5))


def test_a_launcher_waits_for_room_however_long_that_takes(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_module, "REFUSALS", 2)
    follower = launcher(tmp_path, record(tmp_path, 1, {0: [], 1: []}))
    slurm.refusals = [arrays.NoRoom("sbatch refused the jobs: QOSMaxSubmitJobPerUserLimit")] * 5

    def all_end() -> None:
        for number in list(follower.alive):
            publish(follower, number)
        slurm.queue.clear()
        real()

    real = follower.look
    monkeypatch.setattr(follower, "look", all_end)
    follower.run()
    assert sorted(story(follower)) == [(0, "ended", None), (1, "ended", None)]


# Jobs that get nowhere


def test_one_that_only_the_accounting_calls_running_ends_some_day(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_module, "ABSENT", 5)
    follower = launcher(tmp_path, record(tmp_path, 1, {0: []}))
    follower.submit()
    slurm.queue.clear()
    slurm.accounts = {"100_0": "RUNNING|None|node1"}
    for _ in range(4):
        follower.look()
    assert follower.alive
    follower.look()
    assert story(follower) == [(0, "retried", "killed")]


@pytest.mark.parametrize(
    "reason", ["launch failed requeued held", "launch_failed_requeued_held", "JobHoldMaxRequeue"]
)
def test_one_that_slurm_holds_is_taken_from_it_and_tried_again(slurm: FakeSlurm, tmp_path: Path, reason: str) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: []}))
    follower.submit()
    slurm.queue["100_0"] = Queued(reason=reason)
    slurm.silent.add("scancel")
    follower.look()
    slurm.silent.clear()
    follower.look()
    assert slurm.cancelled() == ["100_0"] * 2, "again where SLURM did not answer"
    slurm.accounts = {"100_0": f"CANCELLED|{reason}|None assigned"}
    look(follower)
    assert story(follower) == [(0, "retried", "node failure")] and list(slurm.queue) == ["101_0"]


def test_one_that_its_user_holds_stays_where_it_is(slurm: FakeSlurm, tmp_path: Path) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: []}))
    follower.submit()
    slurm.queue["100_0"].reason = "JobHeldUser"
    look(follower)
    assert not slurm.cancelled() and follower.alive


def test_one_that_hangs_is_ended_again_where_slurm_did_not_answer(slurm: FakeSlurm, tmp_path: Path) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: []}))
    follower.settings.hang_min = 1e-9
    follower.submit()
    slurm.queue["100_0"] = Queued("RUNNING", node="node1")
    slurm.silent.add("scancel")
    look(follower)
    assert slurm.cancelled() and not follower.alive[0].hung
    slurm.silent.clear()
    follower.look()
    slurm.accounts = {"100_0": "CANCELLED by 0|None|node1"}
    look(follower)
    assert story(follower) == [(0, "started", None), (0, "retried", "hang")]


def test_one_that_did_not_wait_for_others_is_not_dropped_but_cancelled(slurm: FakeSlurm, tmp_path: Path) -> None:
    """What it needs was lost in a way that need not repeat: it builds that itself, and somebody cancels it in the queue."""
    follower = launcher(tmp_path, record(tmp_path, 1, {0: [], 1: [0]}))
    follower.submit()
    for _ in range(10):
        if 0 in follower.alive:
            follower.alive[0].moved = 0.0  # it had begun
        for task in list(slurm.queue):
            slurm.accounts[task] = "CANCELLED|None|None assigned" if task != "100_0" else "FAILED|None|node1"
        slurm.queue.clear()
        look(follower)
    told = [(number, event) for number, event, failure in story(follower) if failure == "cancelled"]
    assert told.count((1, "retried")) == 1 and told.count((1, "ended")) == 1
    assert len(slurm.dependencies) < 10 and not follower.alive and not follower.waiting


def test_a_cancelled_sweep_ends_every_job(slurm: FakeSlurm, tmp_path: Path) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: [], 1: [0]}))
    (follower.folder / event_log.CANCELLED).touch()
    follower.run()
    assert not slurm.queue and {failure for *_, failure in story(follower)} == {"cancelled"}
