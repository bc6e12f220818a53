"""Jobs as copies of a process that has imported what all need: children of the launcher all the same."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ctt.core.resources import LaunchSettings
from ctt.execution.jobs import event_log
from ctt.execution.jobs.failures import BEGINS
from ctt.execution.jobs.job_process import PARENT
from ctt.execution.jobs.spec import JobSpec
from ctt.execution.local import warm_process
from ctt.execution.local.local_launcher import LocalLauncher
from ctt.execution.local.warm_process import ChildProcess, WarmProcess
from ctt.store import Store
from tests.waiting import until

OWN = {PARENT: str(os.getpid()), "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmProcess]:
    made = WarmProcess(os.environ)
    until(made.ready)
    yield made
    made.close()


def job_of(folder: Path, number: int = 0) -> dict[str, Any]:
    """A job that has nothing to build."""
    key = f"{number:064x}"
    return {"target": key, "label": f"job {number}", "store": str(folder / "store"), "needs": [], "wanted": [], "stages": [key]}


def waiting(warm: WarmProcess, folder: Path, files: list[int] | None = None) -> ChildProcess:
    """A job that has begun, and waits until its file, a pipe, is written."""
    os.mkfifo(folder / "0000.json")
    with open(folder / "log", "ab") as log:
        child = warm.start(folder / "0000.json", OWN, log.fileno(), files or [])
    assert child is not None
    until(lambda: BEGINS in (folder / "log").read_text())
    return child


def test_a_job_is_a_child_of_the_launcher_and_ends_as_a_job_does(warm: WarmProcess, tmp_path: Path) -> None:
    child = waiting(warm, tmp_path)
    assert psutil.Process(child.pid).ppid() == os.getpid() and child.poll() is None
    (tmp_path / "0000.json").write_text(json.dumps(job_of(tmp_path)))
    assert until(lambda: child.poll() is not None) and child.poll() == 0
    assert json.loads((tmp_path / "0000.outcome.json").read_text())["failure"] is None


def test_it_holds_the_leases_of_its_devices_until_its_end(warm: WarmProcess, tmp_path: Path) -> None:
    lease = os.open(tmp_path / "lease", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lease, fcntl.LOCK_EX)
    child = waiting(warm, tmp_path, [lease])
    os.close(lease)
    with open(tmp_path / "lease") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child.kill()
        assert until(lambda: child.poll() is not None) and child.poll() == -signal.SIGKILL
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_is_printed_goes_to_the_jobs_own_log(warm: WarmProcess, tmp_path: Path) -> None:
    with open(tmp_path / "log", "ab") as log:
        child = warm.start(tmp_path / "missing.json", OWN, log.fileno(), [])
    assert child is not None and until(lambda: child.poll() is not None)
    assert child.poll() == 1
    assert (tmp_path / "log").read_text().rstrip().endswith(f"No such file or directory: '{tmp_path}/missing.json'")


def test_if_the_warm_process_has_ended_there_is_none(tmp_path: Path) -> None:
    ended = WarmProcess({**os.environ, "PYTHONPATH": str(tmp_path / "nothing"), "PYTHONHOME": "/nowhere"})
    until(ended.ready)
    with open(tmp_path / "log", "ab") as log:
        assert ended.start(tmp_path / "job.json", OWN, log.fileno(), []) is None
    ended.close()


@pytest.mark.parametrize("begun", [False, True])
def test_one_that_is_closed_before_it_is_ready_is_awaited_by_nobody(begun: bool, tmp_path: Path) -> None:
    closed = WarmProcess(os.environ)
    assert not begun or not closed.ready()
    closed.close()
    assert closed.ready() and closed.awaited() == []
    with open(tmp_path / "log", "ab") as log:
        assert closed.start(tmp_path / "job.json", OWN, log.fileno(), []) is None
    assert closed.process is None or closed.process.poll() == -signal.SIGKILL


def test_one_that_does_not_answer_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_process, "LONGEST_ANSWER", 0.5)
    stopped = WarmProcess(os.environ)
    until(stopped.ready)
    assert stopped.process is not None
    stopped.process.send_signal(signal.SIGSTOP)
    with open(tmp_path / "log", "ab") as log:
        assert stopped.start(tmp_path / "job.json", OWN, log.fileno(), []) is None
        assert stopped.process.poll() == -signal.SIGKILL, "it can't start the job later"
        assert stopped.start(tmp_path / "job.json", OWN, log.fileno(), []) is None


@pytest.mark.parametrize("possible", [True, False])
def test_jobs_without_gpus_are_copies(possible: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not give the launcher its grandchildren, they are started anew."""
    begun = []
    start = WarmProcess.start
    monkeypatch.setattr(WarmProcess, "start", lambda *arguments: begun.append(start(*arguments)) or begun[-1])
    monkeypatch.setattr(WarmProcess, "possible", staticmethod(lambda: possible))
    folder = tmp_path / "sweeps" / "s" / "0001" / "jobs"
    folder.mkdir(parents=True)
    specs = []
    for number in range(3):
        frozen = job_of(tmp_path, number)
        path = folder / f"{number:04d}.json"
        path.write_text(json.dumps(frozen))
        specs.append(
            JobSpec(number, path, frozen["label"], frozen["target"], frozenset(), (frozen["target"],), (frozen["target"],))
        )
    settings = LaunchSettings(kind="local", leases=str(tmp_path / "leases"))
    ended = {one.target: one.path.with_suffix(".outcome.json") for one in specs}
    before = set(psutil.Process().children())
    LocalLauncher(specs, Store.open(tmp_path / "store"), settings, device="cpu", done=lambda key: ended[key].exists()).run()
    assert {number: event["class"] for number, event in event_log.last(folder).items()} == {0: None, 1: None, 2: None}
    assert all(BEGINS in one.log.read_text() for one in specs)
    assert len(begun) == 3 * possible and None not in begun
    assert set(psutil.Process().children()) <= before, "the warm process ends with the launcher"
