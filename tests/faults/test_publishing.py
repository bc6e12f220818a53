"""Whatever ends a build, the store holds a finished artifact or none, and the next attempt makes it."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from ctt.core.errors import LeaseLost, StoreError
from ctt.store import Artifact, DamagedArtifact, Store
from tests.faults.processes import STRIDE, at_step, fork, kill_myself, state, wait
from tests.waiting import until

KEY = "ab" * 32
BIG = bytes(range(256)) * 5000  # above the size that is hashed at every read


def build(store: Store, wait: float = 5.0) -> Artifact:
    """A stage in small: a checkpoint that is continued, then two files, then the artifact."""
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
    """True if the artifact is there, and then it must be whole; no file of it may be visible otherwise."""
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


def litter(store: Store) -> list[str]:
    """Everything below the root that is neither the artifact nor the one lease file that says how it ended."""
    paths = (p.relative_to(store.root) for p in store.root.rglob("*") if p.is_file())
    return sorted(str(p) for p in paths if p.parts[0] not in ("artifacts",) and p.parts != ("leases", KEY, p.name))


def test_killed_at_every_step(tmp_path: Path) -> None:
    """SIGKILL before a file-system step of lease, build, publish or release, ever later, until a run gets through."""
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
        assert code == -signal.SIGKILL
        build(store, wait=2.0)  # at once: the kernel knows that the owner is gone
        assert finished(store)
        assert litter(store) == []
    else:
        pytest.fail("never got through")
    assert step > 50, "the steps were not seen"
    assert outcomes == sorted(outcomes), "published, then not"
    assert outcomes[-2:] == [True, True], "killed between the rename and the release, it is finished"


def test_two_kills_in_a_row(tmp_path: Path) -> None:
    """Killed, killed again somewhere in the second attempt (which takes over), then built."""
    for step in range(1, 80, 3 * STRIDE):
        store = Store(tmp_path / str(step))

        def doomed(first: int, store: Store = store) -> None:
            at_step(first, kill_myself)
            build(store)

        wait(fork(lambda: doomed(45)))  # waited for at once
        wait(fork(lambda step=step: doomed(step)))
        finished(store)
        build(store, wait=2.0)
        assert finished(store)
        assert litter(store) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_disk_fails_at_every_step(tmp_path: Path, code: int) -> None:
    """Every step fails once: the error names a path and a remedy, nothing is half published, and the retry works."""
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
                os._exit(4)  # the stage's own writing

        result = wait(fork(doomed))
        assert result in (0, 3, 4)
        failed += result == 3
        if result == 0 and step > 90:
            break
        finished(store)
        build(store, wait=2.0)
        assert finished(store)
        assert litter(store) == []
    assert failed > 10


def test_first_of_two_wins(tmp_path: Path) -> None:
    """Two finished folders for one key (an owner lost his lease between his last look and the rename)."""
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
    """What lies in the place of the artifact is damaged: it goes to quarantine, and ours is published."""
    store = Store(tmp_path)
    store.path(KEY).mkdir(parents=True)
    (store.path(KEY) / "half").write_text("copied by hand, without a manifest")
    with pytest.warns(DamagedArtifact, match="manifest.json is missing"):
        build(store)
    assert finished(store)
    assert [p.read_text() for p in store.root.glob("quarantine/*/half")] == ["copied by hand, without a manifest"]


def stopping(store: Store, before: str, report: Path) -> None:
    """A slow owner: stops itself before the named step of publishing, and tells how it went on."""
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
def test_stopped_owner_never_publishes(tmp_path: Path, before: str, wakes: str) -> None:
    """SIGSTOP past the expiry; it wakes before or after its successor publishes, as late as just before the rename."""
    store = Store(tmp_path / "store", heartbeat=0.05, expiry=0.4)
    report = tmp_path / "report"
    slow = fork(lambda: stopping(store, before, report))
    until(lambda: state(slow) == "T")
    with store.lease(KEY, wait=10.0) as lease:
        assert store.get(KEY) is None
        folder = store.work_folder(KEY)
        assert (folder / "log").read_text() == "slow\n"  # the work goes on from where it was
        if wakes == "before":
            os.kill(slow, signal.SIGCONT)
            assert wait(slow) == 0
            assert not store.has(KEY)
        (folder / "by").write_text("the successor")
        store.publish(KEY, folder, lease, {})
    if wakes == "after":
        os.kill(slow, signal.SIGCONT)
        assert wait(slow) == 0
    assert report.read_text() == "lost"
    assert store.verify(KEY) == []
    artifact = store.get(KEY)
    assert artifact is not None
    assert artifact.file("by").read_text() == "the successor"
    assert artifact.file("log").read_text() == "slow\n", "a late line reached the successor's file"
    assert litter(store) == []
