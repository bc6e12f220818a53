"""Leases seen from one process; what many processes do to each other is in tests/faults."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ctt.core.errors import LeaseHeld, LeaseLost, StoreError
from ctt.store import Store
from ctt.store.heartbeat import process_state
from ctt.store.holder import holder
from ctt.store.leases import Lease

KEY = "5e" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", heartbeat=0.1, expiry=1.0)


def lease_file(store: Store) -> Path:
    """The file of the lease that counts."""
    return max((store.root / "leases" / KEY).glob("0*"))


def forget_owner(store: Store, seconds: float) -> None:
    """Makes the lease one of another kernel, last touched so many seconds ago."""
    path = lease_file(store)
    path.write_text(json.dumps({**json.loads(path.read_text()), "kernel": "elsewhere"}))
    past = time.time() - seconds
    os.utime(path, (past, past))


def test_held_then_released(store: Store) -> None:
    with store.lease(KEY, owner="ada") as lease:
        lease.check()
        found = store.holder(KEY)
        assert found is not None
        assert (found.state, found.owner, found.token) == ("held", "ada", lease.token)
        with (
            pytest.raises(LeaseHeld, match=rf"{KEY} is being built by ada \(process {os.getpid()}"),
            store.lease(KEY, wait=False),
        ):
            pass
    found = store.holder(KEY)
    assert found is not None
    assert found.state == "released"
    with store.lease(KEY, wait=False) as after:
        assert after.token != lease.token
        assert after.fence == lease.fence
    with pytest.raises(LeaseLost, match="after its release"):
        lease.check()


def test_released_when_the_work_fails(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.lease(KEY):
        _ = 1 / 0
    with store.lease(KEY, wait=False):
        pass


def test_waits_so_long(store: Store) -> None:
    looks = []
    with store.lease(KEY, owner="ada"):
        began = time.monotonic()
        with pytest.raises(LeaseHeld), store.lease(KEY, wait=0.4, on_wait=looks.append):
            pass
        assert 0.3 < time.monotonic() - began < 5
    assert len(looks) > 2
    assert {look.owner for look in looks} == {"ada"}


def test_waiting_can_be_given_up(store: Store) -> None:
    def give_up(holder: object) -> None:
        raise KeyboardInterrupt

    with store.lease(KEY), pytest.raises(KeyboardInterrupt), store.lease(KEY, on_wait=give_up):
        pass
    assert [path.name for path in (store.root / "leases" / KEY).iterdir()] == ["00000001"]


def test_waits_for_the_release(store: Store) -> None:
    entered = threading.Event()
    order = []

    def first() -> None:
        with store.lease(KEY):
            entered.set()
            time.sleep(0.3)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait()
    with store.lease(KEY):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_beats_while_held(store: Store) -> None:
    """Held for two expiries, the lease stays fresh by the file system's own times."""
    with store.lease(KEY):
        before = lease_file(store).stat().st_mtime_ns
        for _ in range(20):
            time.sleep(0.1)
            found = store.holder(KEY)
            assert found is not None
            assert found.state == "held"
        assert lease_file(store).stat().st_mtime_ns > before + 10**9


def test_expired_lease_is_taken_and_lost(store: Store) -> None:
    """The owner that was taken over finds out, whatever it touches, and leaves the new lease alone."""
    with store.lease(KEY, owner="slow") as slow:
        slow._beat = lambda: None  # type: ignore[method-assign]
        assert slow._process is not None
        slow._released.set()  # both hearts stop
        slow._process.kill()
        slow._process.wait()
        forget_owner(store, 3600)
        with store.lease(KEY, wait=False, owner="next") as following:
            assert following.fence == following.number == 2
            with pytest.raises(LeaseLost, match=f"{KEY} was taken over by next .* because slow gave no heartbeat for 1 s"):
                slow.check()
            assert slow.lost
            following.check()
    with store.lease(KEY, wait=False) as last:
        assert last.number == 3


def test_the_owners_expiry_counts(store: Store) -> None:
    """A contender with a shorter expiry than the owner's goes by the owner's."""
    patient = Store(store.root, heartbeat=5, expiry=60)
    hasty = Store(store.root, heartbeat=0.01, expiry=0.05)
    with patient.lease(KEY):
        forget_owner(store, 30)
        with pytest.raises(LeaseHeld), hasty.lease(KEY, wait=0.3):
            pass


def test_a_reused_process_number_is_not_the_owner(store: Store) -> None:
    """A lease of this very process number, but of a process that started at another time, is a dead one's."""
    path = store.root / "leases" / KEY / "00000007"
    path.parent.mkdir(parents=True)
    with store.lease("f" * 64):
        record = json.loads((store.root / "leases" / ("f" * 64) / "00000001").read_text())
    state = process_state(os.getpid())
    assert state is not None
    assert record["started"] == state[1]
    path.write_text(json.dumps({**record, "started": state[1] - 1}))
    found = store.holder(KEY)
    assert found is not None
    assert found.state == "dead"
    path.write_text(json.dumps(record))
    found = store.holder(KEY)
    assert found is not None
    assert found.state == "held"


def test_a_hidden_process_is_not_a_dead_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc shows only one's own processes, those of other people look like none at all."""
    monkeypatch.setattr("ctt.store.heartbeat.process_state", lambda pid: None)
    with store.lease(KEY), pytest.raises(LeaseHeld), store.lease(KEY, wait=False):
        pass


def test_a_contender_stopped_while_it_looks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a contender read before it was stopped for longer than the expiry proves nothing about the owner now."""
    looks = []

    def slow_look(*arguments: Any) -> Any:
        found = holder(*arguments)
        looks.append(found)
        if len(looks) == 2:
            time.sleep(1.5)
        return found

    def repeat(*arguments: Any) -> Any:  # the second look sees what the first one saw
        found = slow_look(*arguments)
        return looks[0] if len(looks) == 2 else found

    monkeypatch.setattr("ctt.store.leases.holder", repeat)
    with store.lease(KEY) as lease:
        looks.clear()
        with pytest.raises(LeaseHeld), store.lease(KEY, wait=1.0):
            pass
        lease.check()
    assert len(looks) > 2


def test_a_number_is_not_used_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contender that slept while the number it wanted was taken, released and tidied away must not own it."""
    with store.lease(KEY):
        pass
    real = os.link
    slept = []

    def sleepy(source: Path, target: Path) -> None:
        if not slept:
            slept.append(target.name)
            for _ in range(2):
                with store.lease(KEY):
                    pass
        real(source, target)

    monkeypatch.setattr(os, "link", sleepy)
    with store.lease(KEY, wait=5.0) as lease:
        assert slept == ["00000002"]
        assert lease.number == 4
        assert [path.name for path in (store.root / "leases" / KEY).glob("0*")] == ["00000004"]


def test_an_answer_lost_by_the_file_server(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link was made, its answer lost, and the repeated request reports that it exists: it is ours all the same."""
    real = os.link

    def repeated(source: Path, target: Path) -> None:
        real(source, target)
        raise FileExistsError(17, "File exists", str(target))

    monkeypatch.setattr(os, "link", repeated)
    with store.lease(KEY, wait=2.0) as lease:
        lease.check()
        assert lease.number == 1


def test_dead_contenders_leave_nothing(store: Store) -> None:
    folder = store.root / "leases" / KEY
    folder.mkdir(parents=True)
    old, new = folder / "claim.old", folder / "claim.new"
    for path in (old, new):
        path.touch()
    os.utime(old, (1, 1))
    with store.lease(KEY):
        pass
    assert sorted(path.name for path in folder.iterdir()) == ["00000001", "claim.new"]


def test_expiry_needs_two_heartbeats(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="at least two heartbeats"):
        Lease(tmp_path / KEY, heartbeat=10, expiry=15)


def test_no_descriptor_or_process_is_left(store: Store) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with store.lease(KEY):
        pass
    before = descriptors()
    for _ in range(5):
        with store.lease(KEY) as lease:
            process = lease._process
        assert process is not None
        assert process.returncode is not None
        with store.lease(KEY), pytest.raises(LeaseHeld), store.lease(KEY, wait=False):
            pass
    assert descriptors() == before
