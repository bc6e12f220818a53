"""Tail: one stage's metrics, read as they are written, from its work folder and later from its artifact."""

from __future__ import annotations

import json
import logging
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from ctt.core.atomic_files import read_json
from ctt.core.build_context import METRICS, PROGRESS
from ctt.store.artifact import MANIFEST
from ctt.tracking.tracked_runs import TrackedStage

FINALS = "metrics.json"
log = logging.getLogger("ctt.tracking")


class MetricLine(NamedTuple):
    """One line of a metrics file: time in ms since 1970, step, and its numbers by name."""

    time: int
    step: int
    values: dict[str, float]


class Tail:
    """The metric lines of one stage so far; `poll` reads what was appended since.

    began, ended: of the attempt that finished the stage, ms since 1970, 0 if not known; seconds: what all attempts took.

    A file that was replaced by another one (a job went back to its checkpoint and rewrote it) or that has shrunk is
    read again from its start, and `generation` grows by one.
    """

    def __init__(self, stage: TrackedStage) -> None:
        self.stage = stage
        self.lines: list[MetricLine] = []
        self.finals: dict[str, float] = {}
        self.finals_time = 0
        self.began = self.ended = 0
        self.seconds: float | None = None
        self.generation = 0
        self.finished = False
        self.failed = False
        self._inode = -1
        self._offset = 0
        self._complained = False

    def poll(self) -> None:
        """Reads what is new. A finished stage is immutable and is not looked at again."""
        if self.finished:
            return
        done = self.stage.finished.is_dir()
        folder = self.stage.finished if done else self._working()
        if folder is not None:
            self._read_lines(folder / METRICS)
        if done and folder is not None:
            self._read_manifest(folder / MANIFEST)
            self._read_finals(folder / FINALS)
            self.finished = True
        failed = 0.0 if self.stage.failure is None else changed(self.stage.failure)
        self.failed = not done and failed > 0
        if self.failed and folder is not None:
            self.failed = failed >= max(changed(folder / METRICS), changed(folder / PROGRESS))

    def _working(self) -> Path | None:
        return self.stage.working() if callable(self.stage.working) else self.stage.working

    def position(self) -> tuple[int, int, bool, bool]:
        """Changes whenever there is something new."""
        return self.generation, len(self.lines), self.finished, self.failed

    def _read_lines(self, path: Path) -> None:
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                if status.st_size < self._offset or (self._inode not in (-1, status.st_ino)):
                    self.lines.clear()
                    self.generation += 1
                    self._offset = 0
                self._inode = status.st_ino
                file.seek(self._offset)
                data = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return  # not begun, or renamed this very moment: the next poll finds it
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for text in whole.splitlines():
            self._read_line(text, path)

    def _read_line(self, text: bytes, path: Path) -> None:
        try:
            record = json.loads(text)
            values = {k: float(v) for k, v in record.items() if k not in ("t", "step") and is_number(v)}
            line = MetricLine(round(float(record["t"]) * 1000), int(record["step"]), values)
            if not (0 <= line.time < 2**52 and 0 <= line.step < 2**52):
                raise ValueError("no time or step of this world")
            self.lines.append(line)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            if not self._complained:
                log.warning("%s has a line that is no metric and is left out: %.80r", path, text)
            self._complained = True

    def _read_manifest(self, path: Path) -> None:
        provenance = (read_json(path) or {}).get("provenance", {})
        if {"began", "ended"} <= provenance.keys():
            self.began, self.ended = round(provenance["began"] * 1000), round(provenance["ended"] * 1000)
            self.seconds = float(provenance.get("seconds", provenance["ended"] - provenance["began"]))

    def _read_finals(self, path: Path) -> None:
        try:
            self.finals = flatten(json.loads(path.read_text(encoding="utf-8")))
            self.finals_time = self.ended or round(path.stat().st_mtime * 1000)
        except FileNotFoundError:
            return
        except ValueError:
            log.warning("%s is not JSON and is left out", path)


def changed(path: Path) -> float:
    """When a file or folder was last changed, in seconds since 1970; 0 if it isn't there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def is_number(value: Any) -> bool:
    """True for ints and floats, NaN and infinities too, not for booleans."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def flatten(values: Any, prefix: str = "") -> dict[str, float]:
    """The finite numbers of a nested JSON object by their path, joined by "/"; lists and texts are left out."""
    flat: dict[str, float] = {}
    if isinstance(values, dict):
        for name, value in values.items():
            flat.update(flatten(value, f"{prefix}/{name}" if prefix else str(name)))
    elif prefix and is_number(values) and math.isfinite(values):
        flat[prefix] = float(values)
    return flat
