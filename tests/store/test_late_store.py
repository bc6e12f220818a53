"""A store on a file system whose clients cache directories: leases exclude each other, and what is published is seen under them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctt.core.errors import LeaseHeld
from ctt.store import Lease, Store
from tests.faults.counting import LATE
from tests.late_files import LateFileSystem

KEY = f"{0:064x}"
pytestmark = pytest.mark.fault(LATE)
REOPENING = pytest.mark.parametrize("reopening", [True, False], ids=["close-to-open", "nocto"])


def publish(store: Store, lease: Lease) -> None:
    store.publish(KEY, store.work_folder(KEY), lease, dict(kind="x", settings={}, inputs={}))


def test_what_another_client_has_just_published_is_seen_under_the_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a job which had looked for it before does not build it again."""
    store = Store(tmp_path)
    late = LateFileSystem(tmp_path, 1000.0, monkeypatch)
    assert not store.has(KEY)
    with late.other_client(), store.lease(KEY) as lease:
        publish(store, lease)
    assert not store.has(KEY)
    with store.lease(KEY):
        assert store.has(KEY)


@REOPENING
def test_a_lease_that_another_client_has_taken_is_held_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reopening: bool
) -> None:
    store = Store(tmp_path)
    with store.lease(KEY):
        pass  # this client knows the folder, with a lease that was released
    late = LateFileSystem(tmp_path, 1000.0, monkeypatch, reopening=reopening)
    assert store.holder(KEY) is not None
    with late.other_client():
        other = store.lease(KEY)
        other.__enter__()
    try:
        with pytest.raises(LeaseHeld), store.lease(KEY, wait=False):
            pass
    finally:
        with late.other_client():
            other.__exit__(None, None, None)
    with store.lease(KEY, wait=False):
        pass


@REOPENING
def test_waiting_ends_when_an_artifact_appears_or_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reopening: bool
) -> None:
    store = Store(tmp_path)
    late = LateFileSystem(tmp_path, 0.5, monkeypatch, reopening=reopening)
    assert not store.wait_for([KEY], 0.1) and not store.wait_for([KEY], 1000.0, lambda: True)
    with late.other_client(), store.lease(KEY) as lease:
        publish(store, lease)
    assert store.wait_for([KEY], 5.0) and store.has(KEY)
