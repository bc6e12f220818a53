"""Snapshot: a copy of the code in the store, so that jobs run what was submitted, whatever is edited meanwhile.

    code/<digest>/ctt, hydra_plugins, conf, sweeps, launch, origin.json

The name is a digest of every file, so equal code has one copy. origin.json holds the commit and the changes of the checkout
it was copied from; the manifests of what its jobs build record them. A checkout, an editable install and a wheel of the same
code give the same snapshot.
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
FRESH = 24 * 3600.0  # seconds for which gc keeps a snapshot that no record refers to: a sweep may be about to write one


def snapshot(store: Store) -> Path:
    """The folder with a copy of the code this process runs, written if it is missing. Raises StoreError if it was edited."""
    files = dict(sorted(_sources()))
    files[CODE_VERSION_FILE] = (json.dumps(code_version(store), sort_keys=True) + "\n").encode()
    path = store.root / CODE / _digest(files)
    with explained("keep a snapshot of the code", path):
        if not path.is_dir():
            _write(path, files)
        if _digest(dict(_tree(path))) != path.name:
            raise StoreError(f"{path} was edited and is no longer the code that was submitted; remove it and run again")
        os.utime(path)
    return path


def environment(path: Path) -> dict[str, str]:
    """Environment variables with which a process imports the snapshot, whatever its current folder."""
    entries = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return {
        "PYTHONPATH": os.pathsep.join([str(path), *(entry for entry in entries if entry != str(path))]),
        "PYTHONSAFEPATH": "1",  # python -m would look in the current folder first
    }


def garbage(store: Store, referred: set[str]) -> list[Path]:
    """Snapshots that gc may remove: older than FRESH, with names that are not in `referred`."""
    now = time.time()
    found = []
    for path in sorted((store.root / CODE).glob("*")):
        with contextlib.suppress(FileNotFoundError):
            if path.name not in referred and now - path.stat().st_mtime > FRESH:
                found.append(path)
    return found


def remove(path: Path) -> None:
    """Removes a snapshot; readers see all of it or nothing."""
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
    """The files below a folder, without hidden and compiled ones."""
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
    """Writes the files to a temporary folder and renames it; an equal snapshot that was there first is kept."""
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
