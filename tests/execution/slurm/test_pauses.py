"""Lost jobs are submitted again after a pause, refused submissions are repeated after one, and other jobs go on meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ctt.core.errors import UsageError
from ctt.execution.jobs import retries
from ctt.execution.jobs.failures import Failure
from ctt.execution.slurm import refusals
from ctt.execution.slurm.refusals import Refusals, SubmitLimitReached
from tests.execution.slurm.fake_slurm import FakeSlurm, launcher, poll, publish, record, record_outcome, story


class Clock:
    """The monotonic clock; `time.time` follows it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.wall = 1000.0, time.time() - 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "time", lambda: self.wall + self.now)


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    made = FakeSlurm(monkeypatch)
    monkeypatch.setattr(retries, "LONGEST", 900.0)
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_lost_job_waits_and_so_does_what_needs_it_while_others_go_on(slurm: FakeSlurm, tmp_path: Path, clock: Clock) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: [], 1: [0], 2: []}))
    follower.submit()
    slurm.accounts = {"100_0": "NODE_FAIL|None|node1", "101_0": "CANCELLED|Dependency|None assigned"}
    del slurm.queue["100_0"], slurm.queue["101_0"]
    poll(follower)
    assert story(follower) == [(0, "retried", "node failure")]
    assert list(slurm.queue) == ["100_1"] and {job.number for job in follower.waiting} == {0, 1}
    clock.now += retries.RETRIES[Failure.NODE_FAILURE].pause - 1
    poll(follower)
    assert list(slurm.queue) == ["100_1"]
    clock.now += 2
    poll(follower)
    assert list(slurm.queue) == ["100_1", "102_0", "103_0"] and slurm.dependencies[103] == "afterok:102_0"


def test_a_launcher_that_takes_over_keeps_the_pause_and_the_count(slurm: FakeSlurm, tmp_path: Path, clock: Clock) -> None:
    first = launcher(tmp_path, record(tmp_path, 1, {0: []}))
    first.submit()
    slurm.queue.clear()
    slurm.accounts = {"100_0": "FAILED|None|node1|0:9"}
    poll(first)
    assert story(first) == [(0, "retried", "killed")]
    second = launcher(tmp_path, first.jobs)
    second.adopt()
    second.submit()
    assert list(slurm.dependencies) == [100], "its pause is not over"
    clock.now += retries.RETRIES[Failure.KILLED].pause
    second._submit()
    slurm.accounts |= {"101_0": "FAILED|None|node1|0:9"}
    slurm.queue.clear()
    poll(second)
    assert story(second) == [(0, "retried", "killed"), (0, "ended", "killed")], "killed twice without progress"


def test_a_new_record_counts_the_attempts_of_the_jobs_that_it_follows(slurm: FakeSlurm, tmp_path: Path, clock: Clock) -> None:
    first = launcher(tmp_path, record(tmp_path, 1, {4: []}))
    first.submit()
    slurm.queue.clear()
    slurm.accounts = {"100_0": "FAILED|None|node1|0:9"}
    poll(first)
    clock.now += retries.RETRIES[Failure.KILLED].pause
    first._submit()
    second = launcher(tmp_path, record(tmp_path, 2, {3: [], 4: []}))
    second.submit()
    assert second.alive[4].id == "101_0"
    slurm.queue.clear()
    slurm.accounts |= {task: "FAILED|None|node1|0:9" for task in ("101_0", "102_0")}
    poll(second)
    assert sorted(story(second)) == [(3, "retried", "killed"), (4, "ended", "killed")]


def test_a_job_that_failed_while_no_launcher_followed_is_retried_by_its_class(slurm: FakeSlurm, tmp_path: Path) -> None:
    first = launcher(tmp_path, record(tmp_path, 1, {0: [], 1: [], 2: []}))
    first.submit()
    slurm.queue.clear()
    record_outcome(first, 0, "interrupted")
    record_outcome(first, 1, "diverged")
    publish(first, 2)
    second = launcher(tmp_path, first.jobs)
    second.adopt()
    poll(second)
    assert sorted(story(second)) == [(0, "retried", "interrupted"), (1, "ended", "diverged"), (2, "ended", None)]


def test_refusals_are_reported_once_each_and_counted(clock: Clock) -> None:
    seen = Refusals(5.0)
    assert seen.accepted() == []
    first = seen.refused(UsageError("sbatch refused the jobs: job 17: controller not responding"), 3)
    assert first == ["sbatch refused the jobs: job 17: controller not responding; tried again, further refusals are counted"]
    pauses = []
    for number in range(18, 25):
        began = clock.now
        while seen.wait(3):
            clock.now += 0.5
        pauses.append(clock.now - began)
        assert seen.refused(UsageError(f"sbatch refused the jobs: job {number}: controller not responding"), 3) == []
    assert pauses == [5, 10, 20, 40, refusals.LONGEST, refusals.LONGEST, refusals.LONGEST] and seen.in_a_row == 8
    assert len(seen.refused(SubmitLimitReached("sbatch refused the jobs: QOSMaxSubmitJobPerUserLimit"), 3)) == 1
    assert seen.in_a_row == 0, "a limit is no reason to give up"
    assert seen.wait(3) and not seen.wait(2), "a job has left the queue"
    assert seen.accepted() == ["SLURM accepts jobs again, after 9 refusals"]
    assert seen.accepted() == []
