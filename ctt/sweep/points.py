"""What a sweep is made of: points, one of them the baseline, and runs, which are points with seeds."""

from __future__ import annotations

import dataclasses
import re
from functools import cached_property
from typing import Any

from ctt.config import Config


@dataclasses.dataclass(frozen=True)
class Point:
    """A full, canonical Config without its seed, `values` being what of it the sweep varies. title: the label that its file
    gives it, "" if none."""

    label: str
    values: dict[str, Any]
    baseline: bool
    config: Config
    title: str = ""

    @property
    def former_label(self) -> str:
        """The label of ctt 0.1, by which MLflow's runs of then are known: six digits, settings without their prefixes."""
        if self.baseline or not self.values:
            return self.label
        short = {key.removeprefix("ctt_").removeprefix("world_model."): value for key, value in self.values.items()}
        return " ".join(f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in short.items())


@dataclasses.dataclass(frozen=True)
class Run:
    """A point with a seed."""

    point: Point
    seed: int

    @cached_property
    def config(self) -> Config:
        return dataclasses.replace(self.point.config, seed=self.seed)

    @property
    def name(self) -> str:
        return f"{self.point.label} seed={self.seed}"

    @property
    def seed_first(self) -> str:
        """Its name in MLflow, where columns are narrow."""
        return f"seed={self.seed} {self.point.label}"


def run_name(text: str) -> str:
    """The name of a run that somebody has given, perhaps as MLflow has it and with the sweep's: `quick/seed=0 baseline` is
    `quick/baseline seed=0`."""
    found = re.fullmatch(r"(.*/)?(seed=-?\d+) (.+)", text)
    return text if found is None else f"{found[1] or ''}{found[3]} {found[2]}"


@dataclasses.dataclass(frozen=True)
class Merged:
    """A written point that computes what another one does, and why."""

    values: dict[str, Any]
    into: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Distinct points (the baseline first) × seeds; `written` counts the points before merging."""

    name: str
    points: tuple[Point, ...]
    seeds: tuple[int, ...]
    merged: tuple[Merged, ...]
    written: int
    overrides: tuple[str, ...]
    source: str

    @property
    def baseline(self) -> Point:
        return next(p for p in self.points if p.baseline)

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        return tuple(Run(p, s) for p in self.points for s in self.seeds)
