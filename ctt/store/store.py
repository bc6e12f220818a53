"""Store: key → artifact, a folder that is finished or absent, never half, whatever was killed on the way.

    artifacts/<first two of the key>/<key>/   finished and immutable: the stage's files and manifest.json
    work/<key>/<fence>/                       unfinished work; continues from its last checkpoint under any owner
    leases/<key>/                             who is building it (ctt.store.leases)
    failures/<key>/                           one file for each failed attempt; gone once it has succeeded
    quarantine/                               damaged artifacts, each with its reason
    sweeps/<name>/                            what a sweep submitted, its specs and logs
    code/<digest>/                            the code it was submitted with (ctt.execution.jobs.snapshot)

An artifact is built in the work folder under a lease and moved into place by one rename, after every byte is on disk.
manifest.json holds the size, sha256 and time of each file and a seal over itself. Files up to 1 MiB are hashed whenever
they are read, larger ones when their size or time is not the one recorded; a damaged artifact is moved to quarantine
with a warning and counts as absent, so that it is built again.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from ctt.core import atomic_files
from ctt.core.atomic_files import explained
from ctt.core.errors import StoreError, UsageError
from ctt.core.secrets import masked
from ctt.store.artifact import MANIFEST, Artifact, DamagedArtifact, listing, read_manifest, seal
from ctt.store.holder import Holder, holder
from ctt.store.identity import identity
from ctt.store.leases import Lease
from ctt.store.work import Work

LOOK = 1.0  # seconds between looks for an artifact that another host has published
_KEY = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def is_folder_name(name: str) -> bool:
    """Whether a folder of a store may have that name: letters, digits, `_`, `-` and `.`, at most 200."""
    return _NAME.fullmatch(str(name)) is not None and len(str(name)) <= 200


class Store:
    """Finished artifacts by key, in a folder; see the module's text. `heartbeat` and `expiry` (seconds) are those of the leases
    taken through this object.

    >>> store = ctt.Store("store")
    >>> [key for key in store.keys() if store.manifest(key)["kind"] == "vqa"]
    """

    def __init__(self, root: Path | str, *, heartbeat: float = 5.0, expiry: float = 60.0) -> None:
        try:
            self.root = Path(root).expanduser().absolute()
        except RuntimeError as error:  # ~SOMEBODY
            raise UsageError(f"the store {root}: nobody of that name has a home folder here; give a path") from error
        self.heartbeat = heartbeat
        self.expiry = expiry
        try:
            os.lstat(self.root)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise UsageError(f"the store {self.root}: {error.strerror}; give a shorter path") from error
        if (file := self._in_the_way()) is not None:
            what = "a link that leads nowhere" if file.is_symlink() and not file.exists() else "a file"
            where = f"is {what}" if file == self.root else f"cannot be there: {file} is {what}"
            raise UsageError(f"the store {self.root} {where}; give a folder by CTT_STORE or store=PATH")

    def _in_the_way(self) -> Path | None:
        """What stands where the store or a folder above it is to be, and is no folder."""
        for path in (self.root, *self.root.parents):
            if os.path.lexists(path):
                return None if path.is_dir() else path
        return None

    @classmethod
    def open(cls, root: Path | str) -> Store:
        """The store at `root`; its folders are made when they are first needed."""
        return cls(root)

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    @cached_property
    def identity(self) -> str:
        """8 hex digits that are the same by whatever path the store is reached, and others in a copy of it."""
        return identity(self.root)

    # Reading

    def path(self, key: str) -> Path:
        """Where the artifact of a key is, once it is finished."""
        if not _KEY.fullmatch(key):
            raise StoreError(f"{key!r} is not a key: a key is 64 hexadecimal digits")
        return self.root.joinpath("artifacts", key[:2], key)

    def has(self, key: str) -> bool:
        """True if the artifact is finished; one look at the disk, nothing is verified."""
        return os.path.exists(self.path(key) / MANIFEST)

    def refresh(self, keys: Iterable[str]) -> None:
        """Opens the folders of these keys: a client of NFS then asks its server for their entries, instead of its cache."""
        paths = [self.path(key) for key in keys]
        for folder in dict.fromkeys(f for path in paths for f in (self.root, path.parent.parent, path.parent, path)):
            with suppress(OSError):
                os.listdir(folder)

    def wait_for(self, keys: Iterable[str], seconds: float, stopping: Callable[[], bool] | None = None) -> bool:
        """Waits until these artifacts, which other hosts have published, are visible here; whether they are."""
        missing, deadline = [key for key in keys if not self.has(key)], time.monotonic() + seconds
        while missing and not (stopping and stopping()):
            self.refresh(missing)
            missing = [key for key in missing if not self.has(key)]
            if missing and time.monotonic() >= deadline:
                break
            time.sleep(min(LOOK, seconds) if missing else 0)
        return not missing

    def keys(self) -> Iterator[str]:
        """The keys of all finished artifacts, in order."""
        for first in sorted(self.root.glob("artifacts/??")):
            for path in sorted(first.iterdir()):
                if _KEY.fullmatch(path.name) and self.has(path.name):
                    yield path.name

    def get(self, key: str) -> Artifact | None:
        """The verified artifact, or None if there is none or it was damaged (then quarantined, with a warning)."""
        path = self.path(key)
        with explained(f"read artifact {key}", path):
            try:
                seen = os.stat(path).st_ino
            except FileNotFoundError:
                return None
            manifest, reason = read_manifest(self.path(key), key)
            if reason:
                self._damaged(key, reason, seen)
                return None
            artifact = Artifact(key, path, manifest, lambda reason: self._damaged(key, reason, seen))
            for name in manifest["files"]:
                reason = artifact.damage(name)
                if reason:
                    self._damaged(key, reason, seen)
                    return None
        return artifact

    def manifest(self, key: str) -> dict[str, Any]:
        """The manifest of a finished artifact; StoreError if there is none or it is damaged (then quarantined)."""
        with explained(f"read artifact {key}", self.path(key)):
            manifest, reason = read_manifest(self.path(key), key)
        if reason:
            self.quarantine(key, reason)
            raise StoreError(f"artifact {key}: {reason} ({self.path(key)}). It is in quarantine; run again to rebuild it.")
        return manifest

    def verify(self, key: str) -> list[str]:
        """Hashes every file in full; the names of those that do not match the manifest (manifest.json if it is it)."""
        path = self.path(key)
        if not path.exists():
            raise StoreError(f"there is no artifact {key} in {self.root}")
        with explained(f"read artifact {key}", path):
            manifest, reason = read_manifest(self.path(key), key)
            if reason:
                return [MANIFEST]
            artifact = Artifact(key, path, manifest, lambda reason: None)
            return [name for name in manifest["files"] if artifact.damage(name, full=True)]

    # Building

    @contextmanager
    def lease(
        self,
        key: str,
        *,
        owner: str | None = None,
        wait: bool | float = True,
        on_wait: Callable[[Holder], None] | None = None,
        brief: bool = False,
    ) -> Iterator[Lease]:
        """The right to build `key`; see Lease for `wait`, `on_wait` and `brief`. Ask `has` again once it is yours.

        The work of an owner who may still be alive is moved to a new work folder first: that owner's paths lead nowhere.
        `key` may also be a plain name, for what only one process should do (the syncer).
        """
        folder = self.root / "leases" / self._plain(key)
        times: Any = dict(heartbeat=self.heartbeat, expiry=self.expiry)
        with Lease(folder, owner=owner, wait=wait, on_wait=on_wait, brief=brief, **times) as lease:
            with explained(f"take over the work of {key}", self.root / "work" / key):
                self._work(key).adopt(lease)
            if _KEY.fullmatch(key):
                self.refresh([key])  # an earlier owner on another host may just have published it
            yield lease

    def holder(self, key: str) -> Holder | None:
        """Whose lease counts for `key` (state held, released, dead or expired), or None if there never was one."""
        folder = self.root / "leases" / self._plain(key)
        with explained(f"look at the lease of {key}", folder):
            return holder(folder)

    def work_folder(self, key: str) -> Path:
        """The folder of the unfinished work, made if it is missing. Call it under the lease: a takeover moves it."""
        work = self._work(key)
        with explained(f"make the work folder of {key}", work.folder):
            found = work.current()
            if found is None:
                last = holder(self.root / "leases" / key, clock=0)
                found = work.folder / str(last.fence if last else 0)
                atomic_files.make_folder(found)
        return found

    def unfinished(self, key: str) -> Path | None:
        """The folder of unfinished work if there is any; makes nothing (for those who only look)."""
        return self._work(key).current()

    def working(self) -> Iterator[str]:
        """The keys of all unfinished work, in order."""
        for path in sorted(self.root.glob("work/*")):
            if _KEY.fullmatch(path.name) and self.unfinished(path.name) is not None:
                yield path.name

    def _work(self, key: str) -> Work:
        return Work(self.root / "work" / self._plain(key))

    def publish(self, key: str, folder: Path, lease: Lease, manifest: dict[str, Any]) -> Artifact:
        """Moves `folder`, as it is, into the store; the manifest gets key, files, owner, published and seal added.

        Raises LeaseLost if the lease is not ours any more (nothing is published then) and StoreError if the disk
        fails (the folder stays, to be published by the next attempt). If another artifact of this key is there
        already, ours is dropped and that one returned.
        """
        target = self.path(key)
        if lease.key != key:
            raise StoreError(f"the lease is for {lease.key}, not for {key}")
        lease.check()
        with explained(f"publish {key}", folder):
            try:
                self._seal_folder(key, folder, lease, manifest)
                atomic_files.make_folder(target.parent)
                lease.check()
                while not atomic_files.move_if_absent(folder, target):
                    if self.get(key) is not None:
                        atomic_files.remove_tree(folder)
                        break
            except FileNotFoundError:
                lease.check()  # a takeover moves the folder away: then that is the reason
                raise
            atomic_files.sync(target.parent)
            atomic_files.sync(folder.parent)
            self._work(key).clear(lease.fence)
            atomic_files.remove_tree(self.root / "failures" / key)
        artifact = self.get(key)
        if artifact is None:
            raise StoreError(f"artifact {key} was removed or damaged right after it was published ({target})")
        return artifact

    def _seal_folder(self, key: str, folder: Path, lease: Lease, manifest: dict[str, Any]) -> None:
        """Puts every byte of the folder on disk and writes its manifest."""
        for leftover in (folder / MANIFEST, *folder.rglob(atomic_files.LEFTOVERS)):
            leftover.unlink(missing_ok=True)
        os.stat(folder)
        names, folders = listing(folder)
        mode = 0o666 & os.stat(folder).st_mode  # some writers make files that only their owner can read
        files = {}
        for name in names:
            path = folder / name
            os.chmod(path, mode)
            stat = os.stat(path)
            atomic_files.sync(path)
            files[name] = dict(size=stat.st_size, sha256=atomic_files.sha256(path), mtime_ns=stat.st_mtime_ns)
        for path in folders:
            atomic_files.sync(path)
        lease.check()
        try:
            added = dict(key=key, files=files, owner=lease.owner, published=round(time.time(), 3))
            whole = json.loads(json.dumps({**manifest, **added}, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise StoreError(f"the manifest of {key} cannot be written as JSON: {error}") from error
        atomic_files.write_json(folder / MANIFEST, {**whole, "seal": seal(whole)})

    # Failures and damage

    def record_failure(self, key: str, failure: str, message: str, log: str | None = None) -> None:
        """Adds a failed attempt with its class. Never raises: it is called while another error is on its way."""
        folder = self.root / "failures" / self._plain(key)
        text = dict(failure=failure, message=masked(message), log=log and masked(log))
        record = dict(text, time=time.time(), host=socket.gethostname(), pid=os.getpid())
        try:
            atomic_files.make_folder(folder)
            atomic_files.write_json(folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json", record)
        except OSError as error:
            warnings.warn(f"the failure of {key} ({failure}) could not be recorded in {folder}: {error}", stacklevel=2)

    def failures(self, key: str) -> list[dict[str, Any]]:
        """The failed attempts since the last success, oldest first: failure, message, log, time, host, pid."""
        records = []
        for path in sorted((self.root / "failures" / self._plain(key)).glob("*.json")):
            if (found := atomic_files.read_json(path)) is not None:
                records.append(found)
        return records

    def quarantine(self, key: str, reason: str) -> None:
        """Moves an artifact out of the way, with a file that gives the reason; it counts as absent from then on."""
        with suppress(FileNotFoundError):
            self._damaged(key, reason, os.stat(self.path(key)).st_ino)

    def _damaged(self, key: str, reason: str, seen: int) -> None:
        """Quarantines the folder with inode `seen`, unless that was done and a new artifact stands in its place."""
        path = self.path(key)
        away = self.root / "quarantine" / f"{key}-{time.time_ns()}-{uuid.uuid4().hex[:8]}"
        with explained(f"quarantine {key} ({reason})", path):
            atomic_files.make_folder(away.parent)
            try:
                if os.stat(path).st_ino != seen:
                    return
                os.rename(path, away)
            except FileNotFoundError:
                return
            if os.stat(away).st_ino != seen:  # a new one came between the look and the move: give it back
                atomic_files.move_if_absent(away, path)
                return
            (away.parent / f"{away.name}.txt").write_text(reason + "\n", encoding="utf-8")
        text = f"artifact {key} is damaged: {reason}. It was moved to {away} and will be built again."
        warnings.warn(text, DamagedArtifact, stacklevel=3)

    # Housekeeping

    def remove(self, key: str) -> None:
        """Deletes a finished artifact at once for all readers. Raises LeaseHeld while the key is leased."""
        path = self.path(key)
        if not path.exists():
            return
        away = self.root / "work" / f".removed-{uuid.uuid4().hex}"
        with self.lease(key, owner="gc", wait=False, brief=True) as lease, explained(f"remove {key}", path):
            atomic_files.make_folder(away.parent)
            lease.check()
            with suppress(FileNotFoundError):
                os.rename(path, away)
        atomic_files.remove_tree(away)

    def sweeps_folder(self, name: str) -> Path:
        """The folder of a sweep's records, made if it is missing."""
        folder = self.root / "sweeps" / self._plain(name)
        with explained(f"make the folder of sweep {name}", folder):
            atomic_files.make_folder(folder)
        return folder

    @staticmethod
    def _plain(name: str) -> str:
        if not is_folder_name(name):
            raise StoreError(f"{name!r} cannot name a folder of the store: use letters, digits, '_', '-' and '.'")
        return name
