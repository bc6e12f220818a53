"""Which launcher runs a record, what it is asked, and what of the settings is its own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from ctt.config import Config
from ctt.core.errors import CttError, SettingError
from ctt.core.resources import JobLimits, LaunchSettings, LocalSettings, Resources, SlurmSettings
from ctt.core.settings import setting
from ctt.execution import launchers
from ctt.execution.jobs import event_log
from ctt.execution.jobs.job_status import job_statuses
from ctt.execution.recorded_jobs import own_settings
from ctt.execution.slurm import commands
from ctt.execution.slurm.commands import QueueEntry
from ctt.store import Store


@dataclasses.dataclass
class QueueSettings(JobLimits, Resources):
    """Of a cluster that is not SLURM's."""

    server: str = setting("here", "address")
    ports: list[int] = setting(list, "ports")


def record(store: Store, launcher: str | None, job_id: str) -> Path:
    """A record with one job that was submitted; None: as an old ctt has written it."""
    jobs = store.sweeps_folder("x") / "0001" / "jobs"
    jobs.mkdir(parents=True)
    (jobs.parent / "record.json").write_text(json.dumps({"launcher": launcher} if launcher else {}))
    job = dict(label="a", target="f" * 64, needs=[], stages=["f" * 64], wanted=["f" * 64], kind="vqa")
    (jobs / "0000.json").write_text(json.dumps(job))
    event_log.append(jobs, 0, "a", "f" * 64, "submitted", job_id=job_id)
    return jobs


@pytest.mark.parametrize(
    "launcher, job_id, name, state",
    [
        ("slurm", "12_3", "slurm", "queued"),
        (None, "12_3", "slurm", "queued"),
        (None, "123", "local", "lost"),
        ("local", "12_3", "local", "lost"),
        ("gone", "12_3", "gone", "unknown"),
    ],
)
def test_slurm_is_asked_for_its_own_records_and_those_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str | None, job_id: str, name: str, state: str
) -> None:
    store = Store.open(tmp_path)
    jobs = record(store, launcher, job_id)
    monkeypatch.setattr(commands, "queued", lambda name: {"12_3": QueueEntry("PENDING", "")})
    assert launchers.name_of(jobs) == name
    (status,) = job_statuses(store, jobs)
    assert status.state == state
    assert state != "unknown" or "no launcher named gone" in status.message


def test_the_settings_of_a_launcher_are_its_own_fields_and_the_shared_ones() -> None:
    launch = LaunchSettings(kind="queue", jobs=3, partition="gpu", settings={"server": "there", "ports": [1, 2]})
    assert own_settings(launch, QueueSettings) == QueueSettings(jobs=3, partition="gpu", server="there", ports=[1, 2])
    assert own_settings(dataclasses.replace(launch, settings={}), LocalSettings).jobs == 3
    assert own_settings(dataclasses.replace(launch, settings={}), SlurmSettings).partition == "gpu"


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"sever": "x"}, "launch.settings.sever is not a setting of launch.kind=queue; its own settings are server, ports"),
        ({"jobs": 3}, "launch.settings.jobs is not a setting"),
        ({"ports": ["a"]}, "launch.settings"),
    ],
)
def test_a_mistake_in_them_names_the_key(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        own_settings(LaunchSettings(kind="queue", settings=settings), QueueSettings)


def test_an_unknown_launcher_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(CttError, match="no launcher named slrum; did you mean slurm. there are inproc, local, slurm"):
        launchers.check(Config(launch=LaunchSettings(kind="slrum")))


def test_a_launcher_that_is_gone_is_named_with_its_distribution(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    jobs = record(store, "gone", "1")
    plugin = {"distribution": "ctt-gone", "version": "1.5", "code": "0" * 16}
    (jobs.parent / "record.json").write_text(json.dumps({"launcher": "gone", "launcher_plugin": plugin}))
    with pytest.raises(CttError, match="the launcher gone of ctt-gone 1.5 runs these jobs, and it is not installed here"):
        launchers.of_record(jobs, store)
    (status,) = job_statuses(store, jobs)
    assert status.state == "unknown" and "ctt-gone 1.5" in status.message
