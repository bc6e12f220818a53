"""What a launcher does about jobs that SLURM runs, does not list, refuses, holds or loses."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctt.core.errors import UsageError
from ctt.execution.jobs import event_log
from ctt.execution.slurm import arrays
from ctt.execution.slurm import slurm_launcher as slurm_module
from tests.execution.slurm.fake_slurm import (
    FakeSlurm,
    Queued,
    key,
    launcher,
    poll,
    publish,
    record,
    record_outcome,
    story,
)


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(monkeypatch)


def test_what_needs_a_blocked_job_is_blocked_too(slurm: FakeSlurm, tmp_path: Path) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: [], 1: [0], 2: [1]}))
    follower.submit()
    assert slurm.dependencies == {100: "", 101: "afterok:100_0", 102: "afterok:101_0"}
    follower.alive[0].progressed = 0.0
    record_outcome(follower, 0, "diverged")
    slurm.queue.clear()
    slurm.accounts = {"101_0": "CANCELLED|Dependency|", "102_0": "CANCELLED|Dependency|"}
    poll(follower)
    assert story(follower) == [(0, "ended", "diverged"), (1, "ended", "blocked"), (2, "ended", "blocked")]
    assert len(slurm.dependencies) == 3, "nothing is submitted again"
    assert not follower.alive and not follower.waiting


def test_a_failed_auxiliary_stage_leaves_the_job_a_success_without_accounting(slurm: FakeSlurm, tmp_path: Path) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: []}, wanted=[key(9)]))
    slurm.silent.add("sacct")
    follower.submit()
    slurm.queue["100_0"].state = "RUNNING"
    follower.poll()
    publish(follower, 0)
    record_outcome(follower, 0, None, beside={"look": "DataError: nothing"})
    slurm.queue.clear()
    poll(follower)
    assert story(follower) == [(0, "started", None), (0, "ended", None)]


def test_a_job_killed_in_an_auxiliary_stage_is_retried(slurm: FakeSlurm, tmp_path: Path) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: []}, wanted=[key(9)]))
    follower.submit()
    publish(follower, 0)
    slurm.queue.clear()
    poll(follower)
    assert story(follower) == [(0, "retried", "killed")] and len(slurm.dependencies) == 2


# Refusals


def test_queued_jobs_of_another_record_are_followed_whatever_their_code(slurm: FakeSlurm, tmp_path: Path) -> None:
    first = launcher(tmp_path, record(tmp_path, 1, {0: [], 1: []}))
    first.submit()
    (first.record / "record.json").write_text('{"code": "another version"}')
    del slurm.queue["100_1"]
    second = launcher(tmp_path, record(tmp_path, 2, {0: [], 1: [], 2: []}))
    second.submit()
    assert second.alive[0].id == "100_0" and {second.alive[1].id, second.alive[2].id} == {"101_0", "101_1"}
    first.by_number[0].log.unlink()
    first.by_number[0].log.write_text("from step 3\n")
    record_outcome(first, 0, "code error")
    assert second.by_number[0].log.read_text() == "from step 3\n"
    slurm.queue.clear()
    poll(second)
    assert (0, "ended", "code error") in story(second), "its outcome is read through the link"


def test_a_job_that_builds_more_than_the_one_in_the_queue_is_submitted(slurm: FakeSlurm, tmp_path: Path) -> None:
    launcher(tmp_path, record(tmp_path, 1, {0: []})).submit()
    second = launcher(tmp_path, record(tmp_path, 2, {0: []}, wanted=[key(9)]))
    second.submit()
    assert second.alive[0].id == "101_0"


def test_nothing_is_submitted_while_the_queue_is_not_known(slurm: FakeSlurm, tmp_path: Path) -> None:
    launcher(tmp_path, record(tmp_path, 1, {0: []})).submit()
    second = launcher(tmp_path, record(tmp_path, 2, {0: []}))
    slurm.silent.add("squeue")
    with pytest.raises(UsageError, match="squeue"):
        second.submit()
    assert list(slurm.dependencies) == [100] and not slurm.cancelled()


def test_a_refusal_at_the_start_cancels_only_what_was_just_submitted(slurm: FakeSlurm, tmp_path: Path) -> None:
    launcher(tmp_path, record(tmp_path, 1, {0: []})).submit()
    second = launcher(tmp_path, record(tmp_path, 2, {0: [], 1: [], 2: [1]}))
    slurm.refusals = [None, UsageError("sbatch refused the jobs: invalid qos")]
    with pytest.raises(UsageError, match="invalid qos"):
        second.submit()
    assert slurm.cancelled() == ["101_0"] and list(slurm.queue) == ["100_0"]


def test_an_array_that_slurm_accepted_although_sbatch_failed_is_cancelled(slurm: FakeSlurm, tmp_path: Path) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: []}))
    follower.submit()
    record_outcome(follower, 0, "killed")
    slurm.queue.clear()
    logs = follower.record / "slurm"
    slurm.refusals = [UsageError("sbatch refused the jobs: Socket timed out on send/recv operation")]
    with pytest.raises(UsageError, match="timed out"):
        poll(follower)
    slurm.queue["77_0"] = Queued(script=str(logs / ".submission_file_1.sh"))
    slurm.queue["78_0"] = Queued(script=str(tmp_path / "another record" / "slurm" / ".submission_file_2.sh"))
    slurm.silent.add("squeue")
    with pytest.raises(UsageError, match="not known"):
        follower._submit()
    assert list(slurm.dependencies) == [100], "not while that is not known"
    slurm.silent.clear()
    follower._submit()
    assert slurm.cancelled() == ["77"] and list(slurm.queue) == ["78_0", "101_0"]


def test_arrays_are_no_longer_than_the_cluster_allows(slurm: FakeSlurm, tmp_path: Path) -> None:
    slurm.longest = 2
    follower = launcher(tmp_path, record(tmp_path, 1, {number: [] for number in range(5)}))
    follower.submit()
    assert list(slurm.queue) == ["100_0", "100_1", "101_0", "101_1", "102_0"]


def test_jobs_beyond_the_limit_are_submitted_when_the_limit_allows(slurm: FakeSlurm, tmp_path: Path) -> None:
    jobs = record(tmp_path, 1, {number: [] for number in range(5)})
    full = arrays.SubmitLimitReached("sbatch refused the jobs: QOSMaxSubmitJobPerUserLimit")
    slurm.refusals = [full]
    with pytest.raises(UsageError, match="QOSMaxSubmit"):
        launcher(tmp_path, jobs).submit()  # not patient: no launcher would submit the others
    follower = launcher(tmp_path, jobs)
    slurm.refusals = [full]
    follower.submit(patient=True)
    assert not slurm.queue
    slurm.refusals = [None, full]
    with pytest.raises(arrays.SubmitLimitReached):
        follower._submit()
    assert list(slurm.queue) == ["100_0", "100_1"]
    follower._submit()
    assert set(follower.alive) == set(range(5))


def test_a_launcher_waits_at_the_limit_however_long(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(slurm_module, "REFUSALS", 2)
    follower = launcher(tmp_path, record(tmp_path, 1, {0: [], 1: []}))
    slurm.refusals = [arrays.SubmitLimitReached("sbatch refused the jobs: QOSMaxSubmitJobPerUserLimit")] * 5

    def all_end() -> None:
        for number in list(follower.alive):
            publish(follower, number)
        slurm.queue.clear()
        real()

    real = follower.poll
    monkeypatch.setattr(follower, "poll", all_end)
    follower.run()
    assert sorted(story(follower)) == [(0, "ended", None), (1, "ended", None)]
    printed = [line for line in capsys.readouterr().out.splitlines() if "refus" in line]
    assert printed == [
        "ctt: x: sbatch refused the jobs: QOSMaxSubmitJobPerUserLimit; tried again, further refusals are counted",
        "ctt: x: SLURM accepts jobs again, after 5 refusals",
    ]


# Jobs without progress


def test_a_job_that_only_the_accounting_calls_running_ends_after_some_polls(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_module, "ABSENT", 5)
    follower = launcher(tmp_path, record(tmp_path, 1, {0: []}))
    follower.submit()
    slurm.queue.clear()
    slurm.accounts = {"100_0": "RUNNING|None|node1"}
    for _ in range(4):
        follower.poll()
    assert follower.alive
    follower.poll()
    assert story(follower) == [(0, "retried", "killed")]


@pytest.mark.parametrize("reason", ["launch failed requeued held", "launch_failed_requeued_held", "JobHoldMaxRequeue"])
def test_a_job_that_slurm_holds_is_cancelled_and_retried(slurm: FakeSlurm, tmp_path: Path, reason: str) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: []}))
    follower.submit()
    slurm.queue["100_0"] = Queued(reason=reason)
    slurm.silent.add("scancel")
    follower.poll()
    slurm.silent.clear()
    follower.poll()
    assert slurm.cancelled() == ["100_0"] * 2, "again, because SLURM did not answer"
    slurm.accounts = {"100_0": f"CANCELLED|{reason}|None assigned"}
    poll(follower)
    assert story(follower) == [(0, "retried", "node failure")] and list(slurm.queue) == ["101_0"]


def test_a_job_that_its_user_holds_stays_in_the_queue(slurm: FakeSlurm, tmp_path: Path) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: []}))
    follower.submit()
    slurm.queue["100_0"].reason = "JobHeldUser"
    poll(follower)
    assert not slurm.cancelled() and follower.alive


def test_a_hanging_job_is_cancelled_again_if_slurm_did_not_answer(slurm: FakeSlurm, tmp_path: Path) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: []}))
    follower.settings.hang_min = 1e-9
    follower.submit()
    slurm.queue["100_0"] = Queued("RUNNING", node="node1")
    slurm.silent.add("scancel")
    poll(follower)
    assert slurm.cancelled() and not follower.alive[0].hung
    slurm.silent.clear()
    follower.poll()
    slurm.accounts = {"100_0": "CANCELLED by 0|None|node1"}
    poll(follower)
    assert story(follower) == [(0, "started", None), (0, "retried", "hang")]


def test_a_job_without_dependencies_is_cancelled_not_dropped(slurm: FakeSlurm, tmp_path: Path) -> None:
    """The job it needs was lost in a way that may not repeat: it builds that target itself, and is cancelled in the queue."""
    follower = launcher(tmp_path, record(tmp_path, 1, {0: [], 1: [0]}))
    follower.submit()
    for _ in range(10):
        if 0 in follower.alive:
            follower.alive[0].progressed = 0.0  # it had begun
        for task in list(slurm.queue):
            slurm.accounts[task] = "CANCELLED|None|None assigned" if task != "100_0" else "FAILED|None|node1"
        slurm.queue.clear()
        poll(follower)
    events = [(number, event) for number, event, failure in story(follower) if failure == "cancelled"]
    assert events.count((1, "retried")) == 1 and events.count((1, "ended")) == 1
    assert len(slurm.dependencies) < 10 and not follower.alive and not follower.waiting


def test_a_cancelled_sweep_ends_every_job(slurm: FakeSlurm, tmp_path: Path) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: [], 1: [0]}))
    (follower.folder / event_log.CANCELLED).touch()
    follower.run()
    assert not slurm.queue and {failure for *_, failure in story(follower)} == {"cancelled"}
