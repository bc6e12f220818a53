"""Many processes, one key: one builder at a time and one build; an owner that sends heartbeats keeps its lease."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from pathlib import Path

import pytest

from ctt.store import Store
from tests.faults.counting import CLOCK, KILLED, Fault
from tests.faults.processes import STRIDE, at_step, fork, kill_myself, state, wait
from tests.waiting import until

pytestmark = pytest.mark.slow

KEYS = [digit * 64 for digit in "123"]


def note(path: Path, text: str) -> None:
    """One line, appended in one write."""
    fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(fd, (text + "\n").encode())
    os.close(fd)


def test_one_build_for_many(tmp_path: Path) -> None:
    """Eight processes need three keys at the same time; each key is built once, and all of them read it."""
    store, notes, gun = Store(tmp_path / "store", heartbeat=0.1, expiry=2.0), tmp_path / "notes", tmp_path / "gun"

    def contender() -> None:
        until(gun.exists)
        for key in KEYS:
            with store.lease(key) as lease:
                if not store.has(key):
                    note(notes, f"built {key}")
                    folder = store.work_folder(key)
                    (folder / "by").write_text(str(os.getpid()))
                    time.sleep(0.05)
                    store.publish(key, folder, lease, {})
            artifact = store.get(key)
            assert artifact is not None
            note(notes, f"read {key} {artifact.file('by').read_text()}")

    children = [fork(contender) for _ in range(8)]
    gun.touch()
    assert [wait(child) for child in children] == [0] * 8
    lines = notes.read_text().split("\n")
    for key in KEYS:
        assert lines.count(f"built {key}") == 1
        assert len({line for line in lines if line.startswith(f"read {key}")}) == 1
        assert sum(line.startswith(f"read {key}") for line in lines) == 8


def abandoned(store: Store, key: str, how: str) -> None:
    """Leaves a lease whose owner has ended, on this kernel or, as its record claims, on another."""

    def owner() -> None:
        with store.lease(key):
            (store.work_folder(key) / "state").write_text("old")
            os.kill(os.getpid(), signal.SIGKILL)

    assert wait(fork(owner)) == -signal.SIGKILL
    if how != "dead":
        (path,) = (store.root / "leases" / key).glob("0*")
        record = json.loads(path.read_text())
        text = json.dumps({**record, "kernel": "elsewhere"}) if how != "unreadable" else "\0" * 40
        path.write_text(text)
        past = time.time() + (3600 if how == "future" else -3600)
        os.utime(path, (past, past))


@pytest.mark.parametrize("how", ["dead", "expired", "unreadable", "future"])
def test_one_new_owner_at_a_time(tmp_path: Path, how: str) -> None:
    """Six processes contend repeatedly for the lease of a lost owner: never do two hold it at once."""
    store, notes, gun = Store(tmp_path / "store", heartbeat=0.1, expiry=1.0), tmp_path / "notes", tmp_path / "gun"
    abandoned(store, KEYS[0], how)

    def contender() -> None:
        until(gun.exists)
        for _ in range(4):
            with store.lease(KEYS[0]) as lease:
                note(notes, f"in {lease.token}")
                assert (store.work_folder(KEYS[0]) / "state").read_text() == "old"
                time.sleep(0.01)
                lease.check()
                note(notes, f"out {lease.token}")

    children = [fork(contender) for _ in range(6)]
    gun.touch()
    assert [wait(child) for child in children] == [0] * 6
    lines = notes.read_text().split()
    tokens = lines[1::2]
    assert lines[0::2] == ["in", "out"] * 24
    assert tokens[0::2] == tokens[1::2]
    assert len(set(tokens)) == 24


def test_killed_while_taking_over(tmp_path: Path, fault: Fault) -> None:
    """The owner may be alive elsewhere; the process that takes over is killed at each step. The work survives in new files
    under a new path, so that what the first owner still writes has no effect."""
    for step in range(1, 200, 2 * STRIDE):
        store = Store(tmp_path / str(step))
        abandoned(store, KEYS[0], "expired")
        before = store.unfinished(KEYS[0])
        assert before is not None
        opened = os.open(before / "state", os.O_WRONLY)

        def doomed(store: Store = store, step: int = step) -> None:
            at_step(step, kill_myself)
            with store.lease(KEYS[0], wait=5.0):
                pass

        code = wait(fork(doomed))
        with fault(KILLED), store.lease(KEYS[0], wait=2.0):
            os.write(opened, b"late")
            os.close(opened)
            assert not before.exists()
            folder = store.work_folder(KEYS[0])
            assert folder != before
            assert (folder / "state").read_text() == "old"
            assert [path.name for path in folder.parent.iterdir()] == [folder.name]
        if code == 0:
            break
    else:
        pytest.fail("no run completed")
    assert step > 30, "too few steps"


def test_new_owners_killed_at_random(tmp_path: Path, fault: Fault) -> None:
    """Contenders are killed while they hold or take the lease: there is always another owner, and never two."""
    store, notes = Store(tmp_path / "store", heartbeat=0.1, expiry=30.0), tmp_path / "notes"

    def contender() -> None:
        while True:
            with store.lease(KEYS[0]) as lease:
                note(notes, f"in {lease.number}")
                time.sleep(0.004)
                lease.check()
                note(notes, f"out {lease.number}")

    children = [fork(contender) for _ in range(4)]
    try:
        for round in range(12):
            time.sleep(0.07 + 0.003 * round)
            with fault(KILLED):
                os.kill(children[0], signal.SIGKILL)
                wait(children.pop(0))
                children.append(fork(contender))
        before = notes.stat().st_size
        until(lambda: notes.stat().st_size > before)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            wait(child)
    inside = 0
    for line in notes.read_text().splitlines():
        step, number = line.split()
        if step == "in":
            assert int(number) > inside, "a number was given twice"
            inside = int(number)
        else:
            assert int(number) == inside, "two owners at once"


def test_busy_interpreter_keeps_its_lease(tmp_path: Path) -> None:
    """An owner whose call holds the interpreter for three expiries keeps its lease: its heartbeat process continues."""
    store, flag = Store(tmp_path / "store", heartbeat=0.1, expiry=0.8), tmp_path / "flag"

    def owner() -> None:
        with store.lease(KEYS[0]) as lease:
            time.sleep(0.3)
            flag.touch()
            ctypes.PyDLL(None).usleep(2_500_000)  # PyDLL: the call does not let other threads run
            lease.check()

    child = fork(owner)
    until(flag.exists)
    began = time.monotonic()
    with store.lease(KEYS[0], wait=10.0):
        waited = time.monotonic() - began
    assert wait(child) == 0, "the owner lost its lease"
    assert waited > 2.0


def heartbeats_of(pid: int) -> list[int]:
    """The heartbeat processes of an owner."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(one.endswith(b"heartbeat.py") for one in arguments) and str(pid).encode() in arguments:
            found.append(int(path.parent.name))
    return found


def test_no_heartbeat_outlives_its_owner(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", heartbeat=0.1, expiry=1.0)

    def owner() -> None:
        with store.lease(KEYS[0]):
            signal.pause()

    child = fork(owner)
    until(lambda: heartbeats_of(child))
    (heartbeat,) = heartbeats_of(child)
    os.kill(heartbeat, signal.SIGTERM)  # as a scheduler sends it to all processes of a job: the heartbeat continues
    os.kill(heartbeat, signal.SIGINT)
    time.sleep(0.3)
    assert state(heartbeat) == "S"
    os.kill(child, signal.SIGKILL)
    wait(child)
    until(lambda: not state(heartbeat), seconds=3.0)


@pytest.mark.fault(CLOCK)
def test_foreign_clock_changes_nothing(tmp_path: Path) -> None:
    """A contender whose clock is a day ahead waits like any other for an owner on another kernel."""
    store, flag = Store(tmp_path / "store", heartbeat=0.1, expiry=1.0), tmp_path / "flag"

    def owner() -> None:
        import ctt.store.leases

        ctt.store.leases.kernel = lambda: "elsewhere"
        with store.lease(KEYS[0]) as lease:
            flag.touch()
            time.sleep(1.0)
            lease.check()

    def contender() -> None:
        real, real_ns = time.time, time.time_ns
        time.time = lambda: real() + 86400
        time.time_ns = lambda: real_ns() + 86400 * 10**9
        began = time.monotonic()
        with store.lease(KEYS[0]):
            assert time.monotonic() - began > 0.7

    first = fork(owner)
    until(flag.exists)
    second = fork(contender)
    assert wait(first) == 0
    assert wait(second) == 0
