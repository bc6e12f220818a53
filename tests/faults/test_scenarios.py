"""Whatever is killed, stopped, or fails at whatever moment: done again, it gives the same bytes, and nothing is built twice."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ctt.stages import code_version
from tests.faults.counting import ALL, CLOCK, FULL, KILLED, LATE, RENAME, STOPPED, SYNC, Fault, dice, some
from tests.faults.injection import REPORTED, failing, jumping, steps
from tests.faults.processes import fork, state, wait
from tests.faults.scenarios import EXPIRY, SCENARIOS, Scenario, Sources
from tests.late_files import LateFileSystem
from tests.waiting import until

pytestmark = pytest.mark.slow
DAY = 86400.0
LONGEST = 300.0


def each(*few: str, leased: bool = False) -> pytest.MarkDecorator:
    """All scenarios in `make faults`, a few of them in `make test`. leased: those that one process at a time does."""
    names = [name for name, scenario in SCENARIOS.items() if scenario.leased or not leased]
    return pytest.mark.parametrize("name", names if ALL else few)


@pytest.fixture(scope="session")
def sources(tiny_one_seed: Path, tiny_sweep: Path, empty_database: Path) -> Sources:
    return Sources(tiny_one_seed, tiny_sweep, empty_database)


@pytest.fixture(autouse=True)
def code_with_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkout has uncommitted changes, which every stage keeps in the store."""
    monkeypatch.setattr(code_version, "_recorded", dict)
    monkeypatch.setattr(code_version, "_diff", lambda: "a change")


@pytest.fixture
def anew(tmp_path: Path, sources: Sources) -> Callable[[Scenario], Path]:
    """Makes a fresh folder of a scenario."""
    count = 0

    def made(scenario: Scenario) -> Path:
        nonlocal count
        shutil.rmtree(tmp_path / str(count), ignore_errors=True)
        count += 1
        folder = tmp_path / str(count)
        folder.mkdir()
        scenario.make(folder, sources)
        return folder

    return made


def again(scenario: Scenario, folder: Path, sources: Sources) -> None:
    """What holds after a fault: before it is done again, and after that."""
    scenario.check_disturbed(folder)
    assert wait(fork(lambda: scenario.act(folder)), LONGEST) == 0
    scenario.check(folder, sources)


def duration(scenario: Scenario, folder: Path) -> float:
    """Seconds that it takes undisturbed."""
    began = time.monotonic()
    assert wait(fork(lambda: scenario.act(folder)), LONGEST) == 0
    return time.monotonic() - began


@each("world_model", "vqa", "world_model_error", "imagined", "import", "sync", "gc")
def test_killed_at_random_moments(name: str, anew: Callable[[Scenario], Path], sources: Sources, fault: Fault) -> None:
    scenario, draw, killed = SCENARIOS[name], dice("kill", name), 0
    whole = duration(scenario, anew(scenario))
    while killed < some(20, 1):
        folder = anew(scenario)
        child = fork(lambda folder=folder: scenario.act(folder))
        time.sleep(draw.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
        if wait(child) != -signal.SIGKILL:
            continue  # it had ended by then
        killed += 1
        with fault(KILLED):
            again(scenario, folder, sources)


@each("probe", "gc", leased=True)
def test_stopped_beyond_its_lease(name: str, anew: Callable[[Scenario], Path], sources: Sources, fault: Fault) -> None:
    """Another process takes over and finishes; then the first one wakes, and changes nothing."""
    scenario, draw = SCENARIOS[name], dice("stop", name)
    whole = duration(scenario, anew(scenario))
    for _ in range(some(5, 1)):
        folder = anew(scenario)
        child = fork(lambda folder=folder: scenario.act(folder, EXPIRY))
        time.sleep(draw.uniform(0, whole))
        os.kill(child, signal.SIGSTOP)
        until(lambda child=child: state(child) in ("T", "Z", ""))
        with fault(STOPPED):
            time.sleep(2 * EXPIRY)
            assert wait(fork(lambda folder=folder: scenario.act(folder, EXPIRY)), LONGEST) == 0
            os.kill(child, signal.SIGCONT)
            wait(child, LONGEST)  # it lost its lease, found all done, or had ended before
            again(scenario, folder, sources)


@each("probe", "import", "gc")
@pytest.mark.parametrize("kind", [FULL, SYNC, RENAME])
def test_a_step_of_the_file_system_fails(
    name: str, kind: str, anew: Callable[[Scenario], Path], sources: Sources, fault: Fault, tmp_path: Path
) -> None:
    scenario = SCENARIOS[name]
    first = anew(scenario)
    count = steps(kind, first, lambda: scenario.act(first), tmp_path / "count")
    for number in sorted(dice(kind, name).sample(range(1, count + 1), min(count, some(count, 1)))):
        folder = anew(scenario)
        with fault(kind):
            assert failing(kind, folder, number, lambda folder=folder: scenario.act(folder)) in (0, REPORTED)
            again(scenario, folder, sources)


@each("import", "gc", "reader")
@pytest.mark.parametrize("seconds", [DAY, -DAY], ids=["forward", "back"])
def test_the_clock_jumps(
    name: str, seconds: float, anew: Callable[[Scenario], Path], sources: Sources, fault: Fault, tmp_path: Path
) -> None:
    scenario, draw = SCENARIOS[name], dice("clock", name, seconds)
    first = anew(scenario)
    count = steps(FULL, first, lambda: scenario.act(first), tmp_path / "count")
    for _ in range(some(3, 1)):
        folder = anew(scenario)
        with fault(CLOCK):
            assert jumping(seconds, folder, draw.randint(1, max(1, count)), lambda folder=folder: scenario.act(folder)) == 0
            again(scenario, folder, sources)


@pytest.mark.parametrize("reopening", [True, False], ids=["close-to-open", "nocto"])
@each("probe", leased=True)
def test_another_host_has_just_done_it(
    name: str, reopening: bool, anew: Callable[[Scenario], Path], sources: Sources, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This host's client had looked before, and sees the other one's files late: it reads them whole, or does it again under a
    lease and gets the same bytes."""
    scenario = SCENARIOS[name]
    folder = anew(scenario)
    with monkeypatch.context() as patch:
        late = LateFileSystem(folder, 0.5, patch, reopening=reopening)
        scenario.check_disturbed(folder)
        with late.other_client():
            scenario.act(folder)
        with fault(LATE):
            scenario.act(folder)
            time.sleep(0.5)
            scenario.check(folder, sources)
