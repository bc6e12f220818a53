"""After a job has failed because the disk was full, no other starts until there is space, whatever runs the jobs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ctt.core import disk_space
from ctt.core.errors import DiskFull
from ctt.execution.hydra import WaveLauncher
from ctt.execution.jobs import event_log, job_process
from ctt.execution.jobs.lack_of_space import LackOfSpace
from ctt.store import Store
from tests.execution.local.test_local_launcher import WORK, Fakes
from tests.execution.slurm.fake_slurm import FakeSlurm, launcher, poll, record, record_outcome, story


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that are free; one number, that a test changes."""
    found = [5_000_000]
    monkeypatch.setattr(disk_space, "free", lambda path: found[0])
    return found


def test_enough_space_is_what_the_failed_job_needed(tmp_path: Path, free: list[int]) -> None:
    space, other = LackOfSpace(tmp_path, tmp_path), LackOfSpace(tmp_path, tmp_path)
    assert space.lacking() is None
    space.record(needed=2e9)
    assert "not started: a job has found the disk full" in (other.lacking() or "") and "2.0 GB" in (other.lacking() or "")
    free[0] = 2_000_000_001
    assert other.lacking() is None
    free[0] = 5
    assert space.lacking() is None, "it was over"


def test_as_much_again_where_the_estimate_was_too_low(tmp_path: Path, free: list[int]) -> None:
    """As with a quota: the file system reported that there was enough."""
    space = LackOfSpace(tmp_path, tmp_path)
    space.record(needed=3e6)
    free[0] = 7_900_000
    assert space.lacking()
    free[0] = 8_100_000
    assert space.lacking() is None


def test_it_is_known_where_nothing_can_be_written(tmp_path: Path, free: list[int]) -> None:
    space = LackOfSpace(tmp_path / "missing", tmp_path)
    space.ensure_recorded()
    assert space.lacking() and not space.file.exists()


FULL = "log('ends'); sys.exit(os.EX_IOERR)"


def test_local_jobs_that_depend_on_nothing_are_not_started(tmp_path: Path, free: list[int]) -> None:
    fakes = Fakes(tmp_path)
    fakes.local([fakes.add(FULL), *(fakes.add(WORK) for _ in range(3))], jobs=1).run()
    assert [number for number, message in fakes.story() if message.startswith("begins")] == [0]
    assert fakes.classes() == {0: "disk full", 1: "blocked", 2: "blocked", 3: "blocked"}
    assert "the disk of" in event_log.last(fakes.jobs)[2]["message"]


def test_local_jobs_wait_while_others_run_and_start_when_there_is_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second job ends when the first has failed, and frees space."""
    fakes = Fakes(tmp_path)
    monkeypatch.setattr(disk_space, "free", lambda path: 9_000_000 if fakes.done(fakes.key(1)) else 1_000_000)
    after = "while not os.path.exists(folder + '/0001/jobs/disk_full.json'): time.sleep(0.01)\ntime.sleep(0.7); make()"
    fakes.local([fakes.add(FULL), fakes.add(after), fakes.add(WORK)], jobs=2).run()
    begun = [(number, message) for number, message in fakes.story() if number == 2 or message == "ends"]
    assert begun.index((1, "ends")) < begun.index((2, "begins "))
    assert fakes.classes() == {0: "disk full", 1: None, 2: None}


def test_jobs_of_slurm_are_not_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: list[int]) -> None:
    slurm = FakeSlurm(monkeypatch)
    follower = launcher(tmp_path, record(tmp_path, 1, {0: [], 1: [], 2: []}))
    follower.submit()
    follower.waiting = [follower.by_number[2]]  # as if it were to be submitted again
    del follower.alive[2]
    record_outcome(follower, 0, "disk full")
    del slurm.queue["100_0"]
    poll(follower)
    poll(follower)
    assert story(follower) == [(0, "ended", "disk full")] and len(slurm.dependencies) == 1
    slurm.queue.clear()
    record_outcome(follower, 1, "disk full")
    poll(follower)
    assert story(follower)[-2:] == [(1, "ended", "disk full"), (2, "ended", "blocked")] and not follower.waiting
    assert len(slurm.dependencies) == 1


def spec(folder: Path, number: int, store: Path) -> Path:
    path = folder / f"{number:04d}.json"
    content = dict(target=f"{number:064x}", label=f"run {number}", store=str(store), wanted=[f"{number:064x}"], needs=[])
    path.write_text(json.dumps(content))
    return path


def test_a_job_that_a_queue_starts_all_the_same_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: list[int]
) -> None:
    """As jobs in SLURM's queue do, and those of `launch=inproc`: they run in one list."""
    started = []

    def build(frozen: Any, path: Path, *_: Any) -> dict[str, str]:
        started.append(path.name)
        LackOfSpace(path.parent, tmp_path / "s").record(1e9)
        raise DiskFull("the disk is full")

    monkeypatch.setattr(job_process, "_build", build)
    outcomes = [job_process.run(spec(tmp_path, number, tmp_path / "s")) for number in range(3)]
    assert started == ["0000.json"] and [outcome["failure"] for outcome in outcomes] == ["disk full"] * 3
    assert "not started" in outcomes[2]["message"]


def test_no_further_wave_is_started(tmp_path: Path, free: list[int]) -> None:
    """A wave may be one of another of Hydra's launchers, and `launch=inproc`'s."""
    frozen = [SimpleNamespace(number=n, target=f"{n:064x}", path=tmp_path / f"{n}.json") for n in (0, 1)]
    planned = [SimpleNamespace(target=SimpleNamespace(key=job.target)) for job in frozen]
    plan: Any = SimpleNamespace(jobs=planned, waves=lambda pending, most, has: [[job] for job in planned])
    for job in planned:
        job.finished = lambda has: False
    launched: list[int] = []

    def launch(overrides: Any, first: int) -> list[Any]:
        launched.append(first)
        LackOfSpace(tmp_path, tmp_path).record(1e9)
        return [SimpleNamespace(return_value={"failure": "disk full"})]

    jobs: Any = frozen
    WaveLauncher(launch, plan, Store(tmp_path / "s"), jobs).run()
    assert launched == [0]
