"""Snapshot: a copy of the code in the store, so that jobs run what was submitted, whatever is edited meanwhile.

    code/<digest>/ctt, hydra_plugins, conf, sweeps, launch, origin.json

The name is a digest of every file, so equal code has one copy. origin.json is the commit and the changes of the checkout
the copy was taken of; manifests of what a job builds tell these. It works alike from a checkout, from an editable install and
from a wheel.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import ctt
from ctt.config import config_root
from ctt.core import atomic_files
from ctt.core.atomic_files import explained
from ctt.core.errors import StoreError
from ctt.stages.code_version import CODE_VERSION_FILE, code_version
from ctt.store import Store

CODE = "code"
FRESH = 24 * 3600.0  # seconds for which a snapshot is kept without a record that refers to it: one may be on its way


def snapshot(store: Store) -> Path:
    """The folder of the code this process runs, made if the store has none equal to it. Raises StoreError."""
    files = dict(sorted(_sources()))
    files[CODE_VERSION_FILE] = (json.dumps(code_version(store), sort_keys=True) + "\n").encode()
    path = store.root / CODE / _digest(files)
    with explained("keep a snapshot of the code", path):
        if not path.is_dir():
            _write(path, files)
        if _digest(dict(_tree(path))) != path.name:
            raise StoreError(f"{path} is not the code that was submitted any more: remove that folder and run again")
        os.utime(path)
    return path


def environment(path: Path) -> dict[str, str]:
    """What to set in a job's environment so that it imports the snapshot, wherever it is started."""
    before = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return {
        "PYTHONPATH": os.pathsep.join([str(path), *(entry for entry in before if entry != str(path))]),
        "PYTHONSAFEPATH": "1",  # python -m would look in the current folder first
    }


def garbage(store: Store, referred: set[str]) -> list[Path]:
    """Snapshots that may go: those whose name is not `referred` to and that are not fresh."""
    now = time.time()
    found = []
    for path in sorted((store.root / CODE).glob("*")):
        with contextlib.suppress(FileNotFoundError):
            if path.name not in referred and now - path.stat().st_mtime > FRESH:
                found.append(path)
    return found


def remove(path: Path) -> None:
    """Deletes a snapshot at once for all readers."""
    away = path.with_name(f".removed-{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, away)
    atomic_files.remove_tree(away)


def _sources() -> Iterator[tuple[str, bytes]]:
    """The files of a snapshot, by their names in it."""
    package = Path(ctt.__file__).resolve().parent
    for name, data in _tree(package):
        if not name.startswith("_config/"):
            yield f"ctt/{name}", data
    for plugin in sorted((package.parent / "hydra_plugins").glob("ctt_*")):
        for name, data in _tree(plugin):
            yield f"hydra_plugins/{plugin.name}/{name}", data
    for folder in ("conf", "sweeps", "launch"):
        for name, data in _tree(config_root() / folder):
            if name.endswith((".yaml", ".yml")):
                yield f"{folder}/{name}", data


def _tree(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files below a folder but hidden and compiled ones."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if any(part.startswith(".") or part == "__pycache__" for part in name.parts) or path.suffix == ".pyc":
            continue
        if path.is_file():
            yield name.as_posix(), path.read_bytes()


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:16]


def _write(path: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files to a private folder and renames it; if somebody else was first, theirs is as good."""
    atomic_files.make_folder(path.parent)
    private = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        for name, data in files.items():
            file = private / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(file, "xb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            file.chmod(stat.S_IMODE(file.stat().st_mode) & ~0o222)
        atomic_files.move_if_absent(private, path)
    finally:
        atomic_files.remove_tree(private)
    atomic_files.sync(path.parent)
