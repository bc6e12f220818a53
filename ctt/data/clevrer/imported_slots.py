"""Imported slots: a folder of memory-mapped files, made once from a file of the reference.

  slots_<split>.npy   float32 (V, 128, 7, 128), videos in the order of their scenes
  import.json         manifest: per split videos, first scene, size, time and sha256 of its file; the source's name, size
                      and sha256; and `digest`, which depends only on the slots, not on names or paths
Opening a folder checks sizes and times; the import and `ctt data check` read every byte.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ctt.core.atomic_files import write_json
from ctt.core.errors import DataError
from ctt.core.settings import digest

MANIFEST = "import.json"
FORMAT = 1


@dataclass(frozen=True)
class Part:
    """One split of an import; `first` is the scene number of its first video."""

    file: str
    videos: int
    first: int
    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class ImportedSlots:
    """A finished import; `frames` is the number of frames per video in the source (128, or 160 with a rollout)."""

    folder: Path
    parts: dict[str, Part]
    source: dict[str, Any]
    frames: int
    digest: str

    @classmethod
    def open(cls, folder: Path) -> ImportedSlots:
        """The import in `folder`. Raises DataError if it is missing or unfinished, or if a file has changed."""
        imported = cls.from_manifest(folder)
        for part in imported.parts.values():
            imported.check(part)
        return imported

    @classmethod
    def from_manifest(cls, folder: Path) -> ImportedSlots:
        """The import as its manifest describes it, without checking its files. Raises DataError as `open` does."""
        folder = Path(folder)
        path = folder / MANIFEST
        if folder.is_file():
            raise DataError(f"{folder} is a file; import it with `ctt data import {folder}` and name the new folder")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            parts = {split: Part(**part) for split, part in found["splits"].items()}
            imported = cls(folder, parts, found["source"], found["frames"], found["digest"])
        except FileNotFoundError:
            unfinished = (folder / "unfinished.json").exists()
            why = "the import was interrupted; the same `ctt data import` continues it" if unfinished else "no import"
            raise DataError(f"{path} is missing: {why}") from None
        except (ValueError, OSError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{path} is not the manifest of an import ({error})") from None
        if found.get("format") != FORMAT or imported.digest != digest_of(parts):
            raise DataError(f"{path} is damaged, or of another version of ctt; import the slots again")
        return imported

    def path(self, part: Part) -> Path:
        return self.folder / part.file

    def check(self, part: Part, full: bool = False) -> None:
        """Raises DataError if a part's file differs from the imported one; `full` reads all of it."""
        path = self.path(part)
        try:
            stat = path.stat()
        except OSError:
            raise DataError(f"{path} is missing; import the slots again") from None
        if stat.st_size != part.size:
            raise DataError(f"{path} has {stat.st_size} bytes instead of {part.size}; import the slots again")
        if (full or stat.st_mtime_ns != part.mtime_ns) and sha256_of(path, again=full) != part.sha256:
            raise DataError(f"{path} is damaged: its bytes differ from the imported ones; import the slots again")

    def damage(self) -> list[str]:
        """An error message for each damaged file; reads every byte."""
        wrong = []
        for part in self.parts.values():
            try:
                self.check(part, full=True)
            except DataError as error:
                wrong.append(str(error))
        return wrong


def digest_of(parts: dict[str, Part]) -> str:
    """Digest of the slots, independent of names and paths."""
    return digest({split: [p.videos, p.first, p.sha256] for split, p in parts.items()})


def write_manifest(folder: Path, parts: dict[str, Part], source: dict[str, Any], frames: int) -> None:
    """Writes import.json, atomically and after all other files."""
    splits = {split: vars(part) for split, part in parts.items()}
    found = dict(format=FORMAT, digest=digest_of(parts), frames=frames, source=source, splits=splits)
    write_json(folder / MANIFEST, found, sort_keys=False)


@lru_cache(maxsize=256)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(path: Path, again: bool = False) -> str:
    """Hex sha256 of a file, cached per process by size and time; `again` reads it anew. Raises DataError if unreadable."""
    try:
        if again:
            _sha256.cache_clear()
        stat = os.stat(path)
        return _sha256(os.path.realpath(path), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
