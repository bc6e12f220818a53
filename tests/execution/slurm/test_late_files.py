"""A store on a file system whose clients cache directories: what has ended well is awaited, and nothing runs twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ctt.execution.jobs import job_process
from ctt.execution.jobs.job_status import job_statuses
from ctt.execution.slurm.slurm_launcher import SlurmLauncher
from ctt.store import Store
from ctt.store.shared_files import FS_DELAY, SUCCEEDED
from tests.execution.slurm.fake_slurm import FakeSlurm, key, launcher, publish, record, record_outcome, story
from tests.faults.counting import LATE
from tests.late_files import LateFileSystem

DELAY = 0.6  # seconds; on NFS 30 to 60
pytestmark = pytest.mark.fault(LATE)
REOPENING = pytest.mark.parametrize("reopening", [True, False], ids=["close-to-open", "nocto"])


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(monkeypatch)


def settled(follower: SlurmLauncher) -> float:
    """Polls until no job is in the queue or awaited; the seconds that took."""
    began = time.monotonic()
    while follower.alive and time.monotonic() - began < 10 * DELAY:
        follower.poll()
        follower._submit()
        time.sleep(0.01)
    return time.monotonic() - began


def ended_elsewhere(
    tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, write: Callable[[SlurmLauncher], None], **more: bool
) -> SlurmLauncher:
    """A launcher that follows one job, which has left the queue after another client has written what `write` writes."""
    follower = launcher(tmp_path, record(tmp_path, 1, {0: []}), fs_delay_s=3 * DELAY)
    follower.store.root.mkdir()
    late = LateFileSystem(tmp_path, DELAY, monkeypatch, **more)
    follower.submit()
    follower.by_number[0].outcome()
    with late.other_client():
        write(follower)
    assert not follower.store.has(key(0)) and follower.by_number[0].outcome() is None, "this client does not see it yet"
    slurm.queue.clear()
    return follower


@REOPENING
@pytest.mark.parametrize("account", ["COMPLETED|None|node1", None], ids=["accounting", "no-accounting"])
def test_a_job_whose_artifact_is_late_ended_well_and_runs_once(
    tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, account: str | None, reopening: bool
) -> None:
    def write(follower: SlurmLauncher) -> None:
        publish(follower, 0)
        record_outcome(follower, 0, None)

    follower = ended_elsewhere(tmp_path, slurm, monkeypatch, write, reopening=reopening)
    if account:
        slurm.accounts = {"100_0": account}
    took = settled(follower)
    assert story(follower) == [(0, "ended", None)] and list(slurm.dependencies) == [100]
    assert took < DELAY / 2 or not reopening, "a directory that is opened is asked for anew"


@REOPENING
def test_the_outcome_of_a_failed_job_is_awaited_too(
    tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, reopening: bool
) -> None:
    """Its exit code alone would make it a code error, which is not retried."""
    follower = ended_elsewhere(
        tmp_path, slurm, monkeypatch, lambda follower: record_outcome(follower, 0, "interrupted"), reopening=reopening
    )
    slurm.accounts = {"100_0": "FAILED|None|node1|1:0"}
    settled(follower)
    assert story(follower)[0] == (0, "retried", "interrupted")


def test_an_artifact_that_never_appears_is_reported_as_that(tmp_path: Path, slurm: FakeSlurm) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: []}), fs_delay_s=DELAY)
    follower.submit()
    slurm.queue.clear()
    slurm.accounts = {"100_0": "COMPLETED|None|node1"}
    began = time.monotonic()
    while list(slurm.dependencies) == [100]:
        follower.poll()
        follower._submit()
    assert time.monotonic() - began >= DELAY
    assert story(follower) == [(0, "retried", "not visible")]


def test_a_new_launcher_awaits_what_ended_while_none_followed(
    tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(follower: SlurmLauncher) -> None:
        publish(follower, 0)
        record_outcome(follower, 0, None)

    first = ended_elsewhere(tmp_path, slurm, monkeypatch, write, reopening=False)
    second = launcher(tmp_path, first.jobs, fs_delay_s=3 * DELAY)
    second.adopt()
    second.submit()
    settled(second)
    assert list(slurm.dependencies) == [100] and story(second) == [(0, "ended", None)]


@REOPENING
def test_a_job_awaits_what_the_jobs_it_needs_have_written_elsewhere(
    tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, reopening: bool
) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: [], 1: [0]}))
    path = follower.by_number[1].path
    path.write_text(json.dumps({**json.loads(path.read_text()), "store": str(follower.store.root)}))
    seen: list[bool] = []

    def build(frozen: dict[str, object], path: Path, store: Store, *more: object) -> dict[str, str]:
        seen.append(store.has(key(0)))
        return {}

    monkeypatch.setattr(job_process, "_build", build)
    monkeypatch.setenv(SUCCEEDED, "1")
    monkeypatch.setenv(FS_DELAY, str(3 * DELAY))
    late = LateFileSystem(tmp_path, DELAY, monkeypatch, reopening=reopening)
    assert not follower.store.has(key(0))
    with late.other_client():
        publish(follower, 0)
    assert not follower.store.has(key(0))
    job_process.run(path)
    assert seen == [True]


def test_the_status_of_a_detached_sweep_looks_again_before_a_job_is_lost(
    tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = ended_elsewhere(tmp_path, slurm, monkeypatch, lambda follower: publish(follower, 0))
    (follower.record / "record.json").write_text('{"launcher": "slurm"}')
    assert [job.state for job in job_statuses(follower.store, follower.folder)] == ["done"]


def test_a_launcher_looks_again_before_it_submits(tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    follower = launcher(tmp_path, record(tmp_path, 1, {0: []}))
    follower.store.root.mkdir()
    late = LateFileSystem(tmp_path, 1000.0, monkeypatch)
    assert not follower.store.has(key(0))
    with late.other_client():
        publish(follower, 0)
    assert not follower.store.has(key(0))
    follower.submit()
    assert not slurm.dependencies and not follower.waiting
