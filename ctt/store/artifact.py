"""Artifact: the finished, immutable folder of a key, and the manifest that lists what belongs in it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG
from typing import Any

from ctt.core import atomic_files
from ctt.core.atomic_files import explained
from ctt.core.errors import StoreError

MANIFEST = "manifest.json"
SMALL = 1 << 20  # bytes; files up to this size are hashed at every read


class DamagedArtifact(UserWarning):
    """An artifact did not match its manifest and was moved to quarantine; it will be built again."""


class Artifact:
    """The finished folder of a key: `path`, its `manifest`, and `file(name)` for checked access to one file."""

    def __init__(self, key: str, path: Path, manifest: dict[str, Any], damaged: Callable[[str], None]) -> None:
        self.key = key
        self.path = path
        self.manifest = manifest
        self._damaged = damaged

    def __repr__(self) -> str:
        return f"Artifact({self.key[:12]}…, {self.path})"

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(entry["size"] for entry in self.manifest["files"].values())

    def file(self, name: str) -> Path:
        """The path of a file that matches the manifest. Raises StoreError if it does not, after quarantining."""
        if name not in self.manifest["files"]:
            there = ", ".join(sorted(self.manifest["files"]))
            raise StoreError(f"artifact {self.key} has no file {name}; it has {there} ({self.path})")
        reason = self.damage(name)
        if reason:
            self._damaged(reason)
            raise StoreError(f"artifact {self.key} is damaged: {reason}. It was moved to quarantine; run again to rebuild.")
        return self.path / name

    def damage(self, name: str, full: bool = False) -> str:
        """What is wrong with a file, in words, or "". `full` hashes it whatever its size and time."""
        expected = self.manifest["files"][name]
        with explained(f"read artifact {self.key}", self.path / name):
            try:
                stat = os.stat(self.path / name)
            except (FileNotFoundError, NotADirectoryError):
                return f"{name} is missing"
            if not S_ISREG(stat.st_mode):
                return f"{name} is not a file"
            if stat.st_size != expected["size"]:
                return f"{name} has {stat.st_size} bytes instead of {expected['size']}"
            untouched = expected["size"] > SMALL and stat.st_mtime_ns == expected["mtime_ns"]
            if (full or not untouched) and atomic_files.sha256(self.path / name) != expected["sha256"]:
                return f"{name} has other bytes than were published (sha256 differs)"
        return ""


def seal(manifest: dict[str, Any]) -> str:
    """sha256 over everything in a manifest but the seal itself."""
    rest = {name: value for name, value in manifest.items() if name != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def _raise(error: OSError) -> None:
    raise error


def listing(folder: Path) -> tuple[list[str], list[Path]]:
    """The files below a folder, as names relative to it, and its folders, deepest first. No links, pipes or devices."""
    files: list[str] = []
    folders: list[Path] = []
    for base, below, names in os.walk(folder, topdown=False, onerror=_raise):
        folders.append(Path(base))
        for name in [*below, *names]:
            path = Path(base, name)
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise StoreError(f"{path} is not a regular file; an artifact holds files and folders only")
        files += [Path(base, name).relative_to(folder).as_posix() for name in names]
    return sorted(files), folders


def read_manifest(path: Path, key: str) -> tuple[dict[str, Any], str]:
    """The manifest of the folder `path` and "", or {} and what is wrong with it."""
    try:
        stat = os.stat(path / MANIFEST)
        if not S_ISREG(stat.st_mode) or stat.st_size > atomic_files.LARGEST_JSON:
            return {}, f"{MANIFEST} is not a file, or larger than a manifest"
        manifest = json.loads((path / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}, f"{MANIFEST} is missing"
    except (ValueError, RecursionError):
        return {}, f"{MANIFEST} is not JSON"
    try:
        if manifest["seal"] != seal(manifest):
            return {}, f"{MANIFEST} does not match its seal"
        if manifest["key"] != key:
            return {}, f"{MANIFEST} belongs to another key, {manifest['key']}"
    except (KeyError, TypeError, ValueError):
        return {}, f"{MANIFEST} is incomplete"
    return manifest, ""
