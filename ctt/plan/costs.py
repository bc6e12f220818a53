"""Costs: how many seconds of a device a stage takes, from what the store has measured or from the published runs.

Every build leaves a line in the store's timings.jsonl: what kind of stage, what of its settings decides its cost, on which
device, how much of which effort (epochs without losses, with one, with both …) and how many seconds. A plan asks for the
median of the same kind, settings and device; where there is none it takes the costs reported for one H100 (README and
logs of GerardCB/cjepa, batch 2048 and 96), for small models on synthetic data what the demo took on a CPU, and names that source.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from statistics import median
from typing import Any

from ctt.core.errors import CttError
from ctt.stages.base import Stage
from ctt.stages.data import Data
from ctt.stages.world_model import MORE_PASSES
from ctt.store import Store

TIMINGS = "timings.jsonl"

# Seconds on one H100 for 10,000 training videos: world model per epoch by how many losses act (with one: interpolated),
# rollout of 20,000 videos with its writing, ALOE per epoch and per evaluation. Synthetic data is made on the CPU.
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "data": {"videos": 0.03},
    "world_model": {"plain": 42.0, "one": 83.0, "both": 124.0},
    "rollout": {"stage": 58.0},
    "vqa": {"epochs": 110.0, "evaluations": 24.0},
    "probe": {"videos": 0.01},
    "reader": {"videos": 0.02},
}

# The same of the sweep `demo` on one core of a CPU (two for the data): for models whose training state is this small.
DEMO: Mapping[str, Mapping[str, float]] = {
    "data": {"videos": 0.056},
    "world_model": {"plain": 6.5, "one": 11.0, "both": 16.0},
    "rollout": {"stage": 7.8},
    "vqa": {"epochs": 36.0, "evaluations": 2.8},
    "diagnostics": {"stage": 2.3},
    "probe": {"videos": 0.0035},
    "reader": {"videos": 0.0105},
}
SMALL_WEIGHTS = 1e6


class Source(Enum):
    """Where an estimate comes from, in the words of a plan."""

    MEASURED = "measured in this store"
    DEMO = "as the demo took on one CPU core"
    PUBLISHED = "as published for one H100 and the reference's sizes"


@dataclasses.dataclass(frozen=True)
class CostEstimate:
    """Seconds of one device."""

    seconds: float
    source: Source


def record(store: Store, stage: Stage, start: Stage | None, device: str, seconds: float) -> None:
    """Adds what a build took to the store's timings. Never fails a build that succeeded."""
    line = {
        "key": stage.key,
        "kind": stage.kind,
        "alike": stage.cost_class(),
        "device": device,
        "effort": stage.effort(start),
        "seconds": round(seconds, 3),
        "bytes": _written(store, stage),
        "ended": round(time.time(), 1),
    }
    try:
        with open(store.root / TIMINGS, "a", encoding="utf-8") as f:
            f.write(json.dumps(line) + "\n")
    except OSError:
        return


def _written(store: Store, stage: Stage) -> int | None:
    """Bytes of the artifact that was just published."""
    try:
        return sum(int(file["size"]) for file in store.manifest(stage.key)["files"].values())
    except (CttError, KeyError):
        return None


class Costs:
    """Estimates for the stages of a plan, on `device`."""

    def __init__(self, root: Path | None = None, device: str | None = None) -> None:
        self.rates: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        lines = _lines(root / TIMINGS) if root is not None else []
        self.sizes: dict[tuple[str, str], list[float]] = defaultdict(list)
        mixed = []
        for line in lines:
            if line.get("bytes"):
                self.sizes[line["kind"], _weighed(line["alike"], line["effort"])].append(line["bytes"])
            if device is not None and line["device"] != device:
                continue
            effort = {k: v for k, v in line["effort"].items() if v}
            if len(effort) == 1:
                ((name, amount),) = effort.items()
                self.rates[line["kind"], line["alike"]][name].append(line["seconds"] / amount)
            else:
                mixed.append((line, effort))
        alone = {marker: {n: median(values) for n, values in rates.items()} for marker, rates in self.rates.items()}
        for line, effort in mixed:  # several efforts in one time: what has no rate of its own shares what is left
            marker = (line["kind"], line["alike"])
            known = alone.get(marker, {})
            left = max(line["seconds"] - sum(known[n] * amount for n, amount in effort.items() if n in known), 0.0)
            unknown = {n: _rate(PUBLISHED.get(line["kind"], {}), n) * a for n, a in effort.items() if n not in known}
            for name, weight in unknown.items():
                self.rates[marker][name].append(left * weight / sum(unknown.values()) / effort[name])
        self._sizes: dict[tuple[str, str], float] = {}
        self._seen: dict[tuple[str, str, tuple[tuple[str, float], ...]], CostEstimate] = {}

    def size_of(self, stage: Stage) -> float:
        """Bytes of the artifact of `stage`: the median of what is in the store's timings, or the size by its shapes."""
        marker = (stage.kind, _weighed(stage.cost_class(), stage.effort(None)))
        if marker not in self._sizes:
            known = self.sizes.get(marker)
            self._sizes[marker] = median(known) if known else stage.size()
        return self._sizes[marker]

    def of(self, stage: Stage, start: Stage | None) -> CostEstimate:
        """What building `stage` costs if it continues from `start`."""
        effort = stage.effort(start)
        marker = (stage.kind, stage.cost_class(), tuple(effort.items()))
        if marker not in self._seen:
            rates = self.rates.get((stage.kind, stage.cost_class()), {})
            if all(name in rates for name, amount in effort.items() if amount):
                seconds = sum(median(rates[name]) * amount for name, amount in effort.items() if amount)
                self._seen[marker] = CostEstimate(seconds, Source.MEASURED)
            else:
                like = Source.DEMO if small(stage) else Source.PUBLISHED
                each = (DEMO if like is Source.DEMO else PUBLISHED).get(stage.kind, {})
                self._seen[marker] = CostEstimate(sum(_rate(each, name) * a for name, a in effort.items()), like)
        return self._seen[marker]


def _rate(each: Mapping[str, float], name: str) -> float:
    """Seconds of a unit of effort `name`; of epochs whose losses add other numbers of passes, in proportion to these."""
    if name.endswith(MORE_PASSES) and "both" in each:
        passes = float(name.removesuffix(MORE_PASSES))
        return each["plain"] + passes * (each["both"] - each["plain"]) / 2
    return each.get(name, 1.0)


def small(stage: Stage) -> bool:
    """Whether it is made of synthetic data and of no model that is larger than those meant for a CPU."""
    if isinstance(stage, Data):
        return stage.data.kind == "synthetic"
    return stage.weights() <= SMALL_WEIGHTS and all(map(small, stage.inputs().values()))


def _weighed(cost_class: str, effort: Mapping[str, float]) -> str:
    """What else decides a size: the number of videos, and whether an ALOE is only evaluated and leaves no weights."""
    return f"{cost_class} {effort.get('videos', '')} {effort.get('epochs') == 0}"


def _lines(path: Path) -> list[dict[str, Any]]:
    """The timings of a store; a line torn by a crash is left out."""
    if not os.path.exists(path):
        return []
    out = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
            if {"kind", "alike", "device", "effort", "seconds"} <= set(line):
                out.append(line)
        except ValueError:
            continue
    return out
