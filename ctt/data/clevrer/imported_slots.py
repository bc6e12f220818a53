"""Imported slots: a folder of memory-mapped files, made once from a file of the reference.

  slots_<split>.npy   float32 (V, 128, S, D), videos in the order of their scenes
  import.json         manifest: per split videos, first scene, the scenes missing after it, size, time and sha256 of its
                      file; the source's name, size and sha256; S and D if they are not 7 and 128; and `digest`, which
                      depends only on the slots, not on names or paths
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
from ctt.core.regular_files import check_regular, read_regular
from ctt.core.settings import digest

MANIFEST = "import.json"
FORMAT = 1
LARGEST = 16 << 20
"""Maximum bytes of a manifest, which has about a thousand."""
SLOTS, WIDTH = 7, 128
"""Sizes where a manifest names none."""


@dataclass(frozen=True)
class Part:
    """One split of an import; `first` is the scene number of its first video, `missing` those after it that have no video."""

    file: str
    videos: int
    first: int
    size: int
    mtime_ns: int
    sha256: str
    missing: tuple[int, ...] = ()

    @property
    def scenes(self) -> list[int]:
        """The scene numbers of its videos."""
        missing = set(self.missing)
        return [scene for scene in range(self.first, self.first + self.videos + len(missing)) if scene not in missing]

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "missing" or value}


@dataclass(frozen=True)
class ImportedSlots:
    """A finished import; `frames` is the number of frames per video in the source (128, or 160 with a rollout), `slots` and
    `width` are the sizes of a frame."""

    folder: Path
    parts: dict[str, Part]
    source: dict[str, Any]
    frames: int
    digest: str
    slots: int = SLOTS
    width: int = WIDTH

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
            found = json.loads(read_regular(path, LARGEST))
            parts = {s: Part(**{**part, "missing": tuple(part.get("missing", ()))}) for s, part in found["splits"].items()}
            sizes = (found.get("slots", SLOTS), found.get("width", WIDTH))
            imported = cls(folder, parts, found["source"], found["frames"], found["digest"], *sizes)
        except DataError:
            if path.exists():
                raise
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


def sizes_of(folder: Path) -> tuple[int, int]:
    """(slots, width) of an import; those of CLEVRER's reference if there is none."""
    try:
        stat = (Path(folder) / MANIFEST).stat()
        return _sizes(str(folder), stat.st_mtime_ns, stat.st_size)
    except (OSError, DataError):
        return SLOTS, WIDTH


@lru_cache(maxsize=64)
def _sizes(folder: str, mtime_ns: int, size: int) -> tuple[int, int]:
    found = ImportedSlots.from_manifest(Path(folder))
    return found.slots, found.width


def digest_of(parts: dict[str, Part]) -> str:
    """Digest of the slots, independent of names and paths."""
    return digest({split: identity_of(part) for split, part in parts.items()})


def identity_of(part: Part) -> list[Any]:
    """What identifies a split's slots."""
    return [part.videos, part.first, part.sha256, *([list(part.missing)] if part.missing else [])]


def write_manifest(folder: Path, parts: dict[str, Part], source: dict[str, Any], frames: int, slots: int, width: int) -> None:
    """Writes import.json, atomically and after all other files."""
    splits = {split: part.as_json() for split, part in parts.items()}
    found: dict[str, Any] = dict(format=FORMAT, digest=digest_of(parts), frames=frames, source=source, splits=splits)
    if (slots, width) != (SLOTS, WIDTH):
        found |= dict(slots=slots, width=width)
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
        stat = check_regular(path)
        return _sha256(os.path.realpath(path), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
