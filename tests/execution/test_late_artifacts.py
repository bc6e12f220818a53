"""Launchers of other packages, whose jobs run on hosts with a store that this one sees late."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ctt.config import Config
from ctt.core.resources import LaunchSettings
from ctt.execution.hydra import WaveLauncher
from ctt.execution.jobs import event_log, retries
from ctt.execution.jobs.spec import freeze
from ctt.execution.launchers import JobState
from ctt.execution.polling_launcher import PollingLauncher
from ctt.execution.recorded_jobs import RecordedJobs
from ctt.planning import compile_plan
from ctt.store import Store
from ctt.sweep import compile_sweep
from tests.execution.slurm.fake_slurm import key, record
from tests.faults.counting import LATE
from tests.late_files import LateFileSystem
from tests.tiny import TINY_SWEEP

DELAY = 0.5
pytestmark = pytest.mark.fault(LATE)


class Elsewhere(PollingLauncher):
    """Each job ends at once, with `code`, on another client of the file system; the first publishes its target."""

    poll_s = 0.01
    late_files: LateFileSystem
    code: int | None = 0
    publishes = True

    def start(self, job: Any) -> str:
        if self.publishes:
            with self.late_files.other_client(), self.store.lease(job.target) as lease:
                self.store.publish(job.target, self.store.work_folder(job.target), lease, dict(kind="x", settings={}, inputs={}))
            with self.late_files.other_client():
                job.outcome_file.write_text('{"failure": null, "message": "", "beside": {}}')
        return f"{job.number}-{len(event_log.read(self.folder))}"

    def look(self, ids: Collection[str]) -> dict[str, JobState]:
        return {job_id: JobState("ended", code=self.code) for job_id in ids}

    def stop(self, ids: Collection[str]) -> None:
        raise AssertionError("nothing is stopped")


def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fs_delay_s: float, reopening: bool) -> Elsewhere:
    monkeypatch.setattr(retries, "LONGEST", 0.0)
    jobs = record(tmp_path, 1, {0: []})
    (jobs[0].path.parent.parent / "record.json").write_text("{}")
    store = Store(tmp_path / "store")
    store.root.mkdir()
    config = Config(launch=LaunchSettings(kind="elsewhere", fs_delay_s=fs_delay_s))
    made = Elsewhere(RecordedJobs(jobs[0].path.parent, store, jobs, config))
    made.late_files = LateFileSystem(tmp_path, DELAY, monkeypatch, reopening=reopening)
    assert not store.has(key(0))
    return made


def events(made: Elsewhere) -> list[tuple[str, str | None]]:
    return [(event["event"], event["class"]) for event in event_log.read(made.folder)]


@pytest.mark.parametrize("code", [0, None], ids=["exit 0", "unknown"])
@pytest.mark.parametrize("reopening", [True, False], ids=["close-to-open", "nocto"])
def test_what_ended_well_is_awaited_and_runs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reopening: bool, code: int | None
) -> None:
    made = launcher(tmp_path, monkeypatch, 4 * DELAY, reopening)
    made.code = code
    made.run()
    assert events(made) == [("started", None), ("ended", None)]


def test_what_does_not_appear_in_time_is_tried_again_under_its_own_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = launcher(tmp_path, monkeypatch, 0.1, True)
    made.publishes = False
    made.run()
    again = [("started", None), ("retried", "not visible")]
    assert events(made) == [*again, *again, ("started", None), ("ended", "not visible")]


@pytest.mark.parametrize("reopening", [True, False], ids=["close-to-open", "nocto"])
def test_a_wave_of_hydras_launchers_is_seen_before_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reopening: bool
) -> None:
    store = Store(tmp_path / "store")
    plan = compile_plan(compile_sweep("demo", [*TINY_SWEEP[1:], "tracking=off"]))
    jobs = [freeze(job, store, tmp_path, number) for number, job in enumerate(plan.jobs)]
    store.root.mkdir()
    late = LateFileSystem(tmp_path, DELAY, monkeypatch, reopening=reopening)
    targets = {job.number: job.target for job in jobs}
    launched: list[list[int]] = []
    assert not any(map(store.has, targets.values()))

    def launch(overrides: Sequence[Sequence[str]], first: int) -> list[SimpleNamespace]:
        numbers = [int(Path(one[0].removeprefix("spec=").strip("'\"")).stem) for one in overrides]
        launched.append(numbers)
        with late.other_client():
            for path in (store.path(key) for number in numbers for key in jobs[number].wanted):
                path.mkdir(parents=True)
                (path / "manifest.json").touch()
        return [SimpleNamespace(return_value={"failure": None}) for _ in numbers]

    WaveLauncher(launch, plan, store, jobs, LaunchSettings(jobs=None, fs_delay_s=4 * DELAY)).run()
    assert sorted(number for wave in launched for number in wave) == sorted(targets), "each once"
    assert len(launched) > 1 and all(map(store.has, targets.values()))
