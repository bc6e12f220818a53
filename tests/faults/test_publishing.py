"""However a build ends, the store holds a finished artifact or none, and the next attempt builds it."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from ctt.core.errors import LeaseLost, StoreError
from ctt.store import Artifact, DamagedArtifact, Store
from tests.faults.counting import FULL, KILLED, STOPPED, Fault
from tests.faults.processes import STRIDE, at_step, fork, kill_myself, state, wait
from tests.waiting import until

pytestmark = pytest.mark.slow

KEY = "ab" * 32
BIG = bytes(range(256)) * 5000  # above the size that is hashed at every read


def build(store: Store, wait: float = 5.0) -> Artifact:
    """A small stage: a checkpoint, then two files, then the artifact."""
    with store.lease(KEY, wait=wait) as lease:
        if (found := store.get(KEY)) is not None:
            return found
        folder = store.work_folder(KEY)
        part = folder / "part.tmp"
        part.write_bytes(b"half")
        os.rename(part, folder / "checkpoint")
        (folder / "small.json").write_text('{"a": 1}')
        (folder / "below").mkdir(exist_ok=True)
        (folder / "below" / "big.npy").write_bytes(BIG)
        (folder / "checkpoint").unlink()
        return store.publish(KEY, folder, lease, {"kind": "test"})


def finished(store: Store) -> bool:
    """Whether the artifact is there; it must be whole then, and none of its files visible otherwise."""
    if not store.has(KEY):
        assert not store.path(KEY).exists()
        assert store.get(KEY) is None
        return False
    assert store.verify(KEY) == []
    artifact = store.get(KEY)
    assert artifact is not None
    assert sorted(artifact.manifest["files"]) == ["below/big.npy", "small.json"]
    assert artifact.file("below/big.npy").read_bytes() == BIG
    return True


def leftovers(store: Store) -> list[str]:
    """All files below the root but the artifact and the one lease file that records its end."""
    paths = (p.relative_to(store.root) for p in store.root.rglob("*") if p.is_file())
    return sorted(str(p) for p in paths if p.parts[0] not in ("artifacts",) and p.parts != ("leases", KEY, p.name))


def test_killed_at_every_step(tmp_path: Path, fault: Fault) -> None:
    """SIGKILL before the first, second, … file-system step of lease, build, publish and release, until a run completes."""
    outcomes = []
    for step in range(1, 500, STRIDE):
        store = Store(tmp_path / str(step))

        def doomed(store: Store = store, step: int = step) -> None:
            at_step(step, kill_myself)
            build(store)

        code = wait(fork(doomed))
        outcomes.append(finished(store))
        if code == 0:
            break
        with fault(KILLED):
            assert code == -signal.SIGKILL
            build(store, wait=2.0)  # without a delay: the kernel knows that the owner has ended
            assert finished(store)
            assert leftovers(store) == []
    else:
        pytest.fail("no run completed")
    assert step > 50, "too few steps"
    assert outcomes == sorted(outcomes), "published, then not"
    assert outcomes[-2:] == [True, True], "killed between the rename and the release, it is finished"


def test_two_kills_in_a_row(tmp_path: Path, fault: Fault) -> None:
    """Killed, killed again in the second attempt (which takes over), then built."""
    for step in range(1, 80, 3 * STRIDE):
        store = Store(tmp_path / str(step))

        def doomed(first: int, store: Store = store) -> None:
            at_step(first, kill_myself)
            build(store)

        wait(fork(lambda: doomed(45)))  # waited for at once
        wait(fork(lambda step=step: doomed(step)))
        with fault(KILLED):
            finished(store)
            build(store, wait=2.0)
            assert finished(store)
            assert leftovers(store) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_disk_fails_at_every_step(tmp_path: Path, code: int, fault: Fault) -> None:
    """Every step fails once: the error names a path and a remedy, nothing is published in part, and the retry works."""
    failed = 0
    for step in range(1, 500, 2 * STRIDE):
        store = Store(tmp_path / str(step))

        def doomed(store: Store = store, step: int = step) -> None:
            def fail(event: str) -> None:
                raise OSError(code, os.strerror(code))

            at_step(step, fail)
            try:
                build(store)
            except StoreError as error:
                assert str(store.root) in str(error), error
                assert "disk" in str(error), error
                os._exit(3)
            except OSError:
                os._exit(4)  # raised by the stage itself

        result = wait(fork(doomed))
        assert result in (0, 3, 4)
        failed += result == 3
        if result == 0 and step > 90:
            break
        with fault(FULL if code == errno.ENOSPC else "disk fails"):
            finished(store)
            build(store, wait=2.0)
            assert finished(store)
            assert leftovers(store) == []
    assert failed > 10


def test_first_of_two_wins(tmp_path: Path) -> None:
    """Two finished folders for one key (an owner lost its lease between its last check and the rename)."""
    store = Store(tmp_path)
    with store.lease(KEY) as lease:
        ours, theirs = store.root / "ours", store.root / "theirs"
        for folder, text in ((ours, "second"), (theirs, "first")):
            folder.mkdir()
            (folder / "data").write_text(text)
        first = store.publish(KEY, theirs, lease, {"by": "first"})
        second = store.publish(KEY, ours, lease, {"by": "second"})
    assert first.manifest == second.manifest
    assert second.file("data").read_text() == "first"
    assert not ours.exists()


def test_a_damaged_winner_does_not_win(tmp_path: Path) -> None:
    """A damaged folder in place of the artifact goes to quarantine, and the new one is published."""
    store = Store(tmp_path)
    store.path(KEY).mkdir(parents=True)
    (store.path(KEY) / "half").write_text("copied by hand, without a manifest")
    with pytest.warns(DamagedArtifact, match="manifest.json is missing"):
        build(store)
    assert finished(store)
    assert [p.read_text() for p in store.root.glob("quarantine/*/half")] == ["copied by hand, without a manifest"]


def stopping(store: Store, before: str, report: Path) -> None:
    """A slow owner: it stops itself before the named step of publishing, and then reports what came of it."""
    from ctt.core import atomic_files

    step = getattr(atomic_files, before)

    def stop_first(*arguments: object) -> object:
        setattr(atomic_files, before, step)
        os.kill(os.getpid(), signal.SIGSTOP)
        return step(*arguments)

    with store.lease(KEY) as lease:
        folder = store.work_folder(KEY)
        (folder / "by").write_text("the slow one")
        log = open(folder / "log", "a")  # noqa: SIM115  # kept open over the takeover on purpose
        log.write("slow\n")
        log.flush()
        setattr(atomic_files, before, stop_first)
        try:
            store.publish(KEY, folder, lease, {})
            report.write_text("published")
        except LeaseLost:
            report.write_text("lost")
        log.write("late line\n")
        log.close()


@pytest.mark.parametrize("before", ["sha256", "write_json", "make_folder", "move_if_absent"])
@pytest.mark.parametrize("wakes", ["after", "before"])
@pytest.mark.fault(STOPPED)
def test_stopped_owner_never_publishes(tmp_path: Path, before: str, wakes: str) -> None:
    """SIGSTOP past the expiry; it wakes before or after the new owner publishes, at the latest before the rename."""
    store = Store(tmp_path / "store", heartbeat=0.05, expiry=0.4)
    report = tmp_path / "report"
    slow = fork(lambda: stopping(store, before, report))
    until(lambda: state(slow) == "T")
    with store.lease(KEY, wait=10.0) as lease:
        assert store.get(KEY) is None
        folder = store.work_folder(KEY)
        assert (folder / "log").read_text() == "slow\n"  # the work continues
        if wakes == "before":
            os.kill(slow, signal.SIGCONT)
            assert wait(slow) == 0
            assert not store.has(KEY)
        (folder / "by").write_text("the new owner")
        store.publish(KEY, folder, lease, {})
    if wakes == "after":
        os.kill(slow, signal.SIGCONT)
        assert wait(slow) == 0
    assert report.read_text() == "lost"
    assert store.verify(KEY) == []
    artifact = store.get(KEY)
    assert artifact is not None
    assert artifact.file("by").read_text() == "the new owner"
    assert artifact.file("log").read_text() == "slow\n", "a late line reached the new owner's file"
    assert leftovers(store) == []
