"""Cursor: how much of a run a tracking server is known to hold. Losing one costs time, never a point.

A cursor is a small file per run and server under store/tracking/. It is set to `unsure` before points are sent and
to sure again once they have arrived; a syncer that finds it unsure, damaged or absent asks the server what it has.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ctt.core.atomic_files import write_json
from ctt.store.identity import identity
from ctt.tracking.tracked_runs import TrackedRun


@dataclass
class Cursor:
    """run_id: MLflow's id, "" before the run exists; sent: stage key → metric → last step.

    finals: names of the final numbers sent; datasets, models: their keys; described: parameters and tags are there; deleted: a
    person put the run in the bin; note: digest of the description sent.
    """

    run_id: str = ""
    unsure: bool = True
    described: bool = False
    deleted: bool = False
    status: str = ""
    sent: dict[str, dict[str, int]] = field(default_factory=dict)
    finals: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    note: str = ""


class CursorFolder:
    """The cursors of one store for one server, `address`: the same for its own database wherever the store lies."""

    def __init__(self, store_root: Path, address: str) -> None:
        self.folder = Path(store_root) / "tracking" / hashlib.sha256(address.encode()).hexdigest()[:16]

    def load(self, run: TrackedRun) -> Cursor:
        """The run's cursor; a new, unsure one if there is none or it can't be read."""
        try:
            return Cursor(**json.loads(self.path(run.identity).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Cursor()

    def save(self, run: TrackedRun, cursor: Cursor) -> None:
        """Replaces the run's cursor file in one step."""
        write_note(self.path(run.identity), asdict(cursor))

    def store_id(self) -> str:
        """The id of this store, the same wherever it is mounted, another one in a copy of it."""
        return identity(self.folder.parents[1])

    def path(self, name: str) -> Path:
        """The file of a run's identity, or of another record kept with the cursors."""
        return self.folder / f"{name}.json"


def write_note(path: Path, value: object) -> None:
    """Writes JSON, with the folders above it; what is lost in it costs time alone, so no disk is waited for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, value, durable=False, indent=None, sort_keys=False, end="")
