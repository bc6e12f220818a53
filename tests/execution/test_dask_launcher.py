"""A launcher of another distribution, jobs in the workers of a dask cluster: it runs a sweep to the bytes of other launchers,
its jobs are seen and cancelled from other processes, and a lost worker costs one attempt."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ctt.execution.jobs import event_log, spec
from ctt.store import Store
from ctt.study import record
from tests.docs.pages import ROOT, install, path_with
from tests.tiny import TINY_ONE_SEED, artifacts, ctt, environment
from tests.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="dask.distributed is not installed"),
]
FAST = [*TINY_ONE_SEED, "tracking=off", "launch=dask"]


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dask")
    shutil.copytree(Path(__file__).parent / "dask_launcher", folder / "source")  # a build writes next to its source
    install(folder / "source", folder / "installed")
    return folder / "installed"


@pytest.fixture
def store(distribution: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", path_with(distribution))
    return tmp_path / "store"


def start(store: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ctt", "sweep", *FAST, *more]
    return subprocess.Popen(command, env=environment(store), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def jobs_of(store: Path) -> Path:
    return record.newest(Store.open(store), "demo") / "jobs"


def events(store: Path) -> list[dict[str, object]]:
    found = sorted((store / "sweeps" / "demo").glob("[0-9]*/jobs"))
    return event_log.read(found[-1]) if found else []


def worker_of(pid: int) -> int:
    """The worker that has started the process of a job."""
    worker = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert b"multiprocessing" in Path(f"/proc/{worker}/cmdline").read_bytes(), "a worker of dask is spawned by multiprocessing"
    return worker


def training(store: Path) -> int | None:
    """The process of a job that builds a stage."""
    for pid_file in store.glob("sweeps/demo/*/jobs/[0-9]*.pid"):
        words = pid_file.read_text().split()
        if len(words) == 5 and words[3] != "-":
            return int(words[0])
    return None


def test_it_ends_in_the_bytes_of_local_even_if_a_worker_is_lost(store: Path, tiny_one_seed: Path) -> None:
    """local gives the bytes of `tiny_one_seed`: tests/test_end_to_end.py."""
    sweep = start(store, "launch.settings.workers=2")
    try:
        until(lambda: training(store) is not None, "a job that trains")
        os.kill(worker_of(training(store) or 0), signal.SIGKILL)
        text, _ = sweep.communicate(timeout=500)
    finally:
        sweep.kill()
    assert sweep.returncode == 0, text
    retried = [event for event in events(store) if event["event"] == "retried"]
    assert [event["class"] for event in retried] == ["node failure"], events(store)
    assert record.launcher_of(jobs_of(store).parent) == "dask"
    assert artifacts(store) == artifacts(tiny_one_seed)


def test_other_processes_see_and_cancel_its_jobs(store: Path) -> None:
    sweep = start(store, "world_model.epochs=200", "launch.settings.workers=1")
    try:
        until(lambda: training(store) is not None, "a job that trains")
        status = json.loads(ctt(store, "status", "demo", "--json").stdout)
        states = {job["state"] for job in status["jobs"]}
        running = [job for job in status["jobs"] if job["state"] == "running"]
        assert states == {"running", "waiting"} and len(running) == 1 and running[0]["job_id"].startswith("ctt-")
        (jobs_of(store) / "launcher.pid").unlink()  # as if no process followed the jobs
        (jobs_of(store) / "0000.pid").rename(jobs_of(store) / "hidden")
        again = json.loads(ctt(store, "status", "demo", "--json").stdout)
        assert [job["state"] for job in again["jobs"] if job["job_id"]] == ["running"], "the scheduler was asked"
        ctt(store, "cancel", "demo")
        text, _ = sweep.communicate(timeout=120)
    finally:
        sweep.kill()
    assert sweep.returncode != 0, text
    last = event_log.last(jobs_of(store))
    assert "cancelled" in {event["class"] for event in last.values() if event["event"] == "ended"}, last
    assert training(store) is None


@pytest.mark.parametrize(
    "more, message",
    [
        ("launch.settings.workers=0", "workers must be at least 1, got 0 (launch.settings.*, launch.kind=dask)"),
        ("launch.settings.wrokers=2", "launch.settings.wrokers is not a setting of launch.kind=dask; its own settings are workers"),
        ("launch.settings.workers=many", "launch.settings"),
        ("launch.kind=daks", "no launcher named daks; did you mean dask?"),
    ],
)
def test_a_mistake_in_its_settings_is_refused_before_any_work(store: Path, more: str, message: str) -> None:
    done = ctt(store, "sweep", *FAST, more, check=False)
    assert done.returncode != 0 and message in " ".join(done.stderr.split()), done.stderr
    assert not list(store.glob("sweeps/*/[0-9]*"))


def test_a_record_whose_launcher_is_gone_says_so(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = start(store, "world_model.epochs=200", "launch.settings.workers=1")
    try:
        until(lambda: events(store), "the first job")
        sweep.terminate()
        sweep.communicate(timeout=120)
    finally:
        sweep.kill()
    jobs = jobs_of(store)
    job = spec.read(jobs)[-1]  # the first one may have ended before the sweep was
    event_log.append(jobs, job.number, job.label, job.target, "started", job_id="ctt-0-1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    out = ctt(store, "status", "demo", check=False).stdout
    assert "the launcher dask of ctt-dask-launcher 0.1 runs these jobs, and it is not installed here" in " ".join(out.split()), out
    again = ctt(store, "sweep", *FAST, check=False)
    assert again.returncode != 0 and "dask" in again.stderr
