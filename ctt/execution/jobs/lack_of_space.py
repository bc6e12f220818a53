"""Lack of space: after a job has failed because the disk was full, no other job of its record starts until there is space.

jobs/disk_full.json    {"free": bytes that were free after the failure, "needed": bytes that the job still needed}
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from ctt.core import disk_space
from ctt.core.atomic_files import read_json, write_json

NAME = "disk_full.json"
LEAST = 1e6  # bytes that a job needs, where nothing better is known


class LackOfSpace:
    """What is known of a disk that was full, by any process that runs jobs of the folder `jobs`. root: the store's."""

    def __init__(self, jobs: Path, root: Path) -> None:
        self.file, self.root = jobs / NAME, root
        self._own: dict[str, Any] | None = None  # the file may not fit on the disk

    def record(self, needed: float = 0.0) -> None:
        """Call after a job has failed for lack of space, and has removed what was cut short. needed: bytes."""
        found = {"free": disk_space.free(self.root), "needed": max(needed, LEAST)}
        try:
            write_json(self.file, found, durable=False)
        except OSError:
            self._own = found

    def ensure_recorded(self) -> None:
        """`record`, unless the job has done so itself."""
        if self._own is None and not self.file.exists():
            self.record()

    def lacking(self) -> str | None:
        """Why no job may start, with the remedy; None if there is enough space: as much as the job needed, or, where that much was
        free when it failed, as much again."""
        if (found := read_json(self.file) or self._own) is None:
            return None
        try:
            free, needed = float(found["free"]), float(found["needed"])
        except (KeyError, TypeError, ValueError):  # the file is damaged
            free, needed = 0.0, LEAST
        wanted = needed + (free if free >= needed else 0)
        if (lack := disk_space.too_small(wanted, self.root)) is None:
            self._own = None
            with contextlib.suppress(OSError):
                self.file.unlink(missing_ok=True)
        return lack and f"not started: a job has found the disk full, and {lack}"
