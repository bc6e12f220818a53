"""The example of docs/how-to/add-a-launcher.md, as a package outside of the checkout."""

from pathlib import Path

import pytest

from ctt.execution.jobs import event_log
from tests.docs.pages import install, path_with, write_example
from tests.prepared import copy_artifacts
from tests.tiny import TINY, ctt

pytest.importorskip("setuptools")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launcher")
    write_example("how-to/add-a-launcher.md", folder / "example")
    install(folder / "example", folder / "installed")
    return folder / "installed"


@pytest.fixture
def store(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", path_with(installed))
    return tmp_path / "store"


def test_a_sweep_ends_in_a_table(store: Path, tiny_data: Path) -> None:
    copy_artifacts(tiny_data, store)
    command = ["sweep", "demo", *TINY, "ctt_start_epoch=1", "seed=0", "tracking=off", "launch=nice", "launch.jobs=2"]
    done = ctt(store, *command, "launch.settings.niceness=20", check=False)
    assert done.returncode == 2 and "niceness must be at most 19, got 20" in " ".join(done.stderr.split())
    assert "inv_weight=0.2" in ctt(store, *command, "launch.settings.niceness=5").stdout
    events = [event for jobs in store.glob("sweeps/demo/*/jobs") for event in event_log.read(jobs)]
    assert {event["event"] for event in events} == {"started", "ended"} and all(event["job_id"].isdigit() for event in events)
    assert "2/2 runs done" in ctt(store, "status").stdout


def test_the_site_may_have_values_for_it(store: Path) -> None:
    site = store.parent / "config" / "ctt" / "launch.yaml"
    site.parent.mkdir(parents=True)
    site.write_text("nice: {jobs: 2, settings: {niceness: 30}}\n")
    done = ctt(store, "sweep", "demo", *TINY, "seed=0", "tracking=off", "launch=local", "launch.kind=nice", check=False)
    assert done.returncode == 2 and "niceness must be at most 19, got 30" in " ".join(done.stderr.split())
