"""The store seen from one process: what is published is read back, damage is found, messages name the remedy."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ctt.core.errors import LeaseHeld, StoreError, UsageError
from ctt.store import Artifact, DamagedArtifact, Store
from ctt.store.artifact import SMALL
from ctt.store.leases import Lease
from tests.faults.counting import CUT, FLIPPED

KEY = "0d" * 32
FILES = {"metrics.json": b'{"error": 0.5}', "model/weights": b"w" * 3000, "empty": b""}


def publish(store: Store, key: str = KEY, files: dict[str, bytes] = FILES, **manifest: Any) -> Artifact:
    """Builds an artifact of these files under a lease."""
    with store.lease(key, wait=5.0) as lease:
        folder = store.work_folder(key)
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return store.publish(key, folder, lease, manifest)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def test_published_is_read_back(store: Store) -> None:
    assert not store.has(KEY)
    assert store.get(KEY) is None
    assert list(store.keys()) == []
    published = publish(store, kind="rollout", settings={"frames": 32, "rate": 0.1})
    read = store.get(KEY)
    assert read is not None
    assert store.has(KEY)
    assert list(store.keys()) == [KEY]
    assert read.manifest == published.manifest == store.manifest(KEY)
    assert read.manifest["kind"] == "rollout"
    assert read.manifest["settings"] == {"frames": 32, "rate": 0.1}
    assert read.path == store.root / "artifacts" / KEY[:2] / KEY
    assert {name: read.file(name).read_bytes() for name in read.manifest["files"]} == FILES
    assert read.size == sum(map(len, FILES.values()))
    assert store.verify(KEY) == []
    assert not (store.root / "work" / KEY).exists()


def test_opening_makes_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.has(KEY), store.get(KEY), list(store.keys()), store.holder(KEY), store.unfinished(KEY), store.failures(KEY)
    assert not store.root.exists()


def test_on_disk_before_it_is_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losing power after the rename loses nothing: all files and folders were synced before it, the names after it."""
    steps: list[tuple[str, Path]] = []
    fsync, rename = os.fsync, os.rename

    def recorded_fsync(fd: int) -> None:
        steps.append(("sync", Path(os.readlink(f"/proc/self/fd/{fd}"))))
        fsync(fd)

    def recorded_rename(source: Path, target: Path) -> None:
        steps.append(("rename", Path(target)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "rename", recorded_rename)
    published = publish(store)
    work = store.root / "work" / KEY / "0"
    moved = steps.index(("rename", published.path))
    before = [path for step, path in steps[:moved] if step == "sync"]
    assert {work / name for name in FILES} | {work, work / "model"} <= set(before)
    assert any(path.name.startswith(".manifest.json.") for path in before)
    last = {path: index for index, path in enumerate(before)}
    assert last[work] > max(i for path, i in last.items() if path.name.startswith(".manifest.json."))
    after = [path for step, path in steps[moved:] if step == "sync"]
    assert {published.path.parent, work.parent} <= set(after)
    assert {store.root, store.root / "artifacts"} <= {path for step, path in steps if step == "sync"}


def test_publishing_leaves_a_later_leases_work_alone(store: Store) -> None:
    """An owner that was taken over right after its rename tidies up what is its own."""
    later = store.root / "work" / KEY / "7"
    with store.lease(KEY) as lease:
        folder = store.work_folder(KEY)
        (folder / "data").write_text("x")
        later.mkdir()
        store.publish(KEY, folder, lease, {})
    assert later.is_dir()


def test_work_goes_on(store: Store) -> None:
    """What an attempt leaves is there for the next one; looking for it makes nothing."""
    assert store.unfinished(KEY) is None
    with pytest.raises(RuntimeError), store.lease(KEY):
        (store.work_folder(KEY) / "checkpoint").write_text("epoch 3")
        raise RuntimeError
    assert not store.has(KEY)
    with store.lease(KEY) as lease:
        folder = store.work_folder(KEY)
        assert store.unfinished(KEY) == folder
        assert list(store.working()) == [KEY]
        assert (folder / "checkpoint").read_text() == "epoch 3"
        store.publish(KEY, folder, lease, {})
    assert store.unfinished(KEY) is None
    assert list(store.working()) == []


DAMAGES = {
    "flip": lambda data: data[:7] + bytes([data[7] ^ 1]) + data[8:],
    "truncate": lambda data: data[:-1],
    "grow": lambda data: data + b"\0",
    "empty": lambda data: b"",
}
DAMAGED = {"flip": FLIPPED, "truncate": CUT, "grow": "file grown", "empty": CUT}


@pytest.mark.parametrize("name", ["metrics.json", "model/weights"])
@pytest.mark.parametrize("how", [*(pytest.param(how, marks=pytest.mark.fault(DAMAGED[how])) for how in DAMAGES), "missing"])
def test_damage_is_found_and_rebuilt(store: Store, name: str, how: str) -> None:
    artifact = publish(store)
    path = artifact.path / name
    path.unlink() if how == "missing" else path.write_bytes(DAMAGES[how](path.read_bytes()))
    assert store.verify(KEY) == [name]
    with pytest.warns(DamagedArtifact, match=rf"{KEY} is damaged: {name} .*quarantine.*built again"):
        assert store.get(KEY) is None
    assert not store.has(KEY)
    (kept,) = (path for path in (store.root / "quarantine").iterdir() if path.is_dir())
    assert name in kept.with_name(kept.name + ".txt").read_text()
    publish(store)
    assert store.get(KEY) is not None


def test_damage_after_opening_is_found_at_the_read(store: Store) -> None:
    artifact = publish(store)
    (artifact.path / "metrics.json").write_bytes(b'{"error": 0.4}')
    with pytest.warns(DamagedArtifact), pytest.raises(StoreError, match=r"metrics.json has other bytes.*run again"):
        artifact.file("metrics.json")
    assert not store.has(KEY)


def test_large_files_go_by_size_and_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Untouched, a large file is not hashed; touched, it is, and counts if its bytes are right (a copied store)."""
    artifact = publish(store, files={"slots.npy": b"s" * (SMALL + 1)})
    path = artifact.path / "slots.npy"
    with monkeypatch.context() as patch:
        patch.setattr("ctt.core.atomic_files.sha256", lambda path: pytest.fail(f"{path} was hashed"))
        assert store.get(KEY) is not None
    os.utime(path, (1, 1))
    assert store.get(KEY) is not None
    path.write_bytes(b"t" + b"s" * SMALL)
    with pytest.warns(DamagedArtifact, match="slots.npy has other bytes"):
        assert store.get(KEY) is None


def test_verify_reads_everything(store: Store) -> None:
    """A large file whose bytes changed but not its size and time (a failing disk) is found by the full look."""
    artifact = publish(store, files={"slots.npy": b"s" * (SMALL + 1)})
    path = artifact.path / "slots.npy"
    times = path.stat()
    path.write_bytes(b"t" + b"s" * SMALL)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.verify(KEY) == ["slots.npy"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_of_a_manifest(tmp_path: Path, data: st.DataObject) -> None:
    """The manifest is refused, or the flip changed nothing in it (1e5 and 1E5)."""
    store = Store(tmp_path)
    if not store.has(KEY):
        publish(store, settings={"learning_rate": 1e-5, "name": "é", "list": [1, None, True]})
    path = store.path(KEY) / "manifest.json"
    good = path.read_bytes()
    meant = store.manifest(KEY)
    bit = data.draw(st.integers(0, 8 * len(good) - 1))
    bad = bytearray(good)
    bad[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bad)
    if store.verify(KEY) == ["manifest.json"]:
        with pytest.raises(StoreError, match="manifest.json .*It is in quarantine"), pytest.warns(DamagedArtifact):
            store.manifest(KEY)
        (away,) = (found for found in (tmp_path / "quarantine").iterdir() if found.is_dir())
        away.rename(path.parent)
    else:
        assert store.manifest(KEY) == meant
    path.write_bytes(good)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=25, deadline=None)
@given(facts=st.dictionaries(st.text(), plain, max_size=4))
def test_any_json_manifest_comes_back(tmp_path_factory: pytest.TempPathFactory, facts: dict[str, Any]) -> None:
    facts = {name.encode("utf-8", "replace").decode(): value for name, value in facts.items()}
    store = Store(tmp_path_factory.mktemp("store"))
    publish(store, facts=facts)
    assert store.manifest(KEY)["facts"] == facts


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"bytes", Path("x")])
def test_a_manifest_must_be_json(store: Store, value: object) -> None:
    with pytest.raises(StoreError, match="manifest .* JSON"):
        publish(store, value=value)
    assert not store.has(KEY)


@given(key=st.text() | st.from_regex(r"[0-9a-f]{0,70}", fullmatch=True) | st.from_regex(r"[0-9A-F]{64}", fullmatch=True))
def test_only_keys_are_keys(key: str) -> None:
    """64 lower-case hexadecimal digits, and nothing that could lead out of the store."""
    store = Store("never-made")
    if len(key) == 64 and not set(key) - set("0123456789abcdef"):
        assert store.path(key).name == key
    else:
        with pytest.raises(StoreError, match="not a key"):
            store.has(key)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-x", ".hidden", "a\0", "x" * 300])
def test_names_stay_in_the_store(store: Store, name: str) -> None:
    for method in (store.sweeps_folder, store.work_folder, store.failures, store.holder):
        with pytest.raises(StoreError, match="cannot name"):
            method(name)


def test_sweeps_folder(store: Store) -> None:
    assert store.sweeps_folder("demo") == store.root / "sweeps" / "demo"
    assert store.sweeps_folder("demo").is_dir()


def test_failures_until_success(store: Store) -> None:
    assert store.failures(KEY) == []
    store.record_failure(KEY, "timeout", "ran out of time", "job.log")
    store.record_failure(KEY, "code error", "ValueError: x")
    first, second = store.failures(KEY)
    assert (first["failure"], first["message"], first["log"]) == ("timeout", "ran out of time", "job.log")
    assert (second["failure"], second["log"]) == ("code error", None)
    assert first["time"] <= second["time"]
    publish(store)
    assert store.failures(KEY) == []


def test_a_failure_that_cannot_be_recorded_hides_nothing(store: Store) -> None:
    store.root.mkdir()
    (store.root / "failures").write_text("a file")
    with pytest.warns(UserWarning, match="could not be recorded"):
        store.record_failure(KEY, "code error", "the real one")


def test_quarantine_and_remove(store: Store) -> None:
    publish(store)
    with pytest.warns(DamagedArtifact, match="because I say so"):
        store.quarantine(KEY, "because I say so")
    assert not store.has(KEY)
    store.quarantine(KEY, "nothing there: nothing happens")
    publish(store)
    with store.lease(KEY), pytest.raises(LeaseHeld):
        store.remove(KEY)
    assert store.has(KEY)
    store.remove(KEY)
    assert not store.path(KEY).exists()
    assert list(store.keys()) == []
    assert [path for path in (store.root / "work").rglob("*") if path.is_file()] == []
    store.remove(KEY)


def test_removing_begins_no_heartbeat(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ctt gc` removes a hundred thousand artifacts."""
    publish(store)
    monkeypatch.setattr(Lease, "_start_second_heart", lambda lease: pytest.fail("a process for one rename"))
    store.remove(KEY)
    assert not store.has(KEY) and (found := store.holder(KEY)) is not None and found.state == "released"


def test_a_late_look_does_not_quarantine_the_rebuilt(store: Store) -> None:
    """Two readers find the same damage; the slower one must not throw away what was built meanwhile."""
    artifact = publish(store)
    (artifact.path / "metrics.json").unlink()
    with pytest.warns(DamagedArtifact):
        store.get(KEY)
    (store.root / "other").mkdir()  # takes the inode number that has become free, should the file system reuse it
    publish(store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        artifact._damaged("seen long ago")
    assert store.get(KEY) is not None


def test_a_missing_file_is_named(store: Store) -> None:
    artifact = publish(store)
    with pytest.raises(StoreError, match=r"no file x.npy; it has empty, metrics.json, model/weights"):
        artifact.file("x.npy")
    with pytest.raises(StoreError, match="manifest.json is missing"):
        store.manifest("1" * 64)
    with pytest.raises(StoreError, match="there is no artifact 1111"):
        store.verify("1" * 64)


def test_only_files_and_folders(store: Store) -> None:
    with store.lease(KEY) as lease:
        folder = store.work_folder(KEY)
        (folder / "link").symlink_to("/etc/passwd")
        with pytest.raises(StoreError, match="link is not a regular file"):
            store.publish(KEY, folder, lease, {})
    assert not store.has(KEY)


def test_the_lease_must_be_for_the_key(store: Store) -> None:
    with store.lease("2" * 64) as lease, pytest.raises(StoreError, match="the lease is for 2222"):
        store.publish(KEY, store.work_folder(KEY), lease, {})


def test_root_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(UsageError, match=r"store is a file; give a folder by CTT_STORE"):
        Store.open(tmp_path / "store")


def test_a_file_in_the_way(store: Store) -> None:
    store.root.mkdir()
    (store.root / "leases").write_text("")
    with pytest.raises(StoreError, match=r"cannot take the lease .*leases.*Not a directory\. A file is where a folder"):
        publish(store)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(store: Store) -> None:
    store.root.mkdir(mode=0o500)
    with pytest.raises(StoreError, match="No permission to write there"):
        publish(store)


def test_a_store_can_be_moved(store: Store, tmp_path: Path) -> None:
    """Copied without its times to another place, every artifact is still what it was."""
    publish(store, files={"big": b"b" * (SMALL + 5), "small": b"s"})
    shutil.copytree(store.root, tmp_path / "moved", copy_function=shutil.copyfile)
    moved = Store(tmp_path / "moved")
    assert moved.verify(KEY) == []
    assert moved.get(KEY) is not None


class Life(RuleBasedStateMachine):
    """Random lives of three keys against a model: a dictionary of what was published and is undamaged."""

    keys = st.sampled_from([letter * 64 for letter in "abc"])

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(Path(os.environ["CTT_TEST_LIFE"]) / os.urandom(8).hex())
        self.whole: dict[str, dict[str, bytes]] = {}
        self.damaged: set[str] = set()
        self.failed: dict[str, int] = {}

    @rule(key=keys, files=st.dictionaries(st.sampled_from(["a", "b", "c/d"]), st.binary(max_size=20)))
    def build(self, key: str, files: dict[str, bytes]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DamagedArtifact)
            if self.store.get(key) is None:
                publish(self.store, key, files)
                self.whole[key] = files
                self.damaged.discard(key)
                self.failed.pop(key, None)

    @rule(key=keys, data=st.data())
    def damage(self, key: str, data: st.DataObject) -> None:
        if key in self.whole and key not in self.damaged:
            names = [*self.whole[key], "manifest.json"]
            path = self.store.path(key) / data.draw(st.sampled_from(names))
            path.unlink() if data.draw(st.booleans()) else path.write_bytes(path.read_bytes() + b"!")
            self.damaged.add(key)

    @rule(key=keys)
    def add_a_cache(self, key: str) -> None:
        """Files that are not in the manifest (caches) are nobody's damage."""
        if key in self.whole:
            (self.store.path(key) / "cache").write_text("x")

    @precondition(lambda self: self.whole)
    @rule(key=keys)
    def read(self, key: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DamagedArtifact)
            artifact = self.store.get(key)
        if key in self.damaged or key not in self.whole:
            assert artifact is None
            self.whole.pop(key, None)
            self.damaged.discard(key)
        else:
            assert artifact is not None
            assert {name: artifact.file(name).read_bytes() for name in artifact.manifest["files"]} == self.whole[key]

    @rule(key=keys)
    def fail(self, key: str) -> None:
        self.store.record_failure(key, "code error", "x")
        self.failed[key] = self.failed.get(key, 0) + 1

    @rule(key=keys)
    def remove(self, key: str) -> None:
        self.store.remove(key)
        self.whole.pop(key, None)
        self.damaged.discard(key)

    @invariant()
    def agrees(self) -> None:
        present = set(self.store.keys())
        assert set(self.whole) - self.damaged <= present <= set(self.whole)
        for key in "a" * 64, "b" * 64, "c" * 64:
            assert len(self.store.failures(key)) == self.failed.get(key, 0)
            if key in present and key not in self.damaged:
                assert self.store.verify(key) == []


def test_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    monkeypatch.setenv("CTT_TEST_LIFE", str(tmp_path))
    quick = settings(max_examples=12, stateful_step_count=15, deadline=None)
    run_state_machine_as_test(Life, settings=quick)
