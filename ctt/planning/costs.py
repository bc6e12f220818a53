"""Costs: how many seconds of a device a stage takes, from what the store has measured or from the published runs.

Every build leaves a line in the store's timings.jsonl: what kind of stage, what of its settings decides its cost, on which
device, how much of which effort (epochs without losses, with one, with both …) and how many seconds. A plan asks for the
median of the same kind, settings and device; where there is none it takes the costs reported for one H100 (README and
logs of GerardCB/cjepa, batch 2048 and 96), for small models on synthetic data what the demo took on a CPU, and names that source.
Each stage declares these two (`published_seconds`, `demo_seconds`).
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
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
        "alike": stage.alike,
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
        self._mixed: dict[tuple[str, str], list[tuple[float, dict[str, float]]]] = defaultdict(list)
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
                self._mixed[line["kind"], line["alike"]].append((line["seconds"], effort))
        self._sizes: dict[tuple[str, str], float] = {}
        self._seen: dict[tuple[str, str, tuple[tuple[str, float], ...]], CostEstimate] = {}

    def size_of(self, stage: Stage) -> float:
        """Bytes of the artifact of `stage`: the median of what is in the store's timings, or the size by its shapes."""
        marker = (stage.kind, _weighed(stage.alike, stage.effort(None)))
        if marker not in self._sizes:
            known = self.sizes.get(marker)
            self._sizes[marker] = median(known) if known else stage.size()
        return self._sizes[marker]

    def of(self, stage: Stage, start: Stage | None) -> CostEstimate:
        """What building `stage` costs if it continues from `start`."""
        effort = stage.effort(start)
        marker = (stage.kind, stage.alike, tuple(effort.items()))
        if marker not in self._seen:
            rates = self._rates_of(stage)
            if all(name in rates for name, amount in effort.items() if amount):
                seconds = sum(median(rates[name]) * amount for name, amount in effort.items() if amount)
                self._seen[marker] = CostEstimate(seconds, Source.MEASURED)
            else:
                like = Source.DEMO if small(stage) else Source.PUBLISHED
                each = stage.demo_seconds if like is Source.DEMO else stage.published_seconds
                self._seen[marker] = CostEstimate(sum(_rate(each, name) * a for name, a in effort.items()), like)
        return self._seen[marker]

    def _rates_of(self, stage: Stage) -> Mapping[str, Sequence[float]]:
        """Seconds of each unit of effort that builds like that of `stage` took. Of several efforts in one time, those
        without a time of their own share what is left, as the published costs are to each other."""
        marker = (stage.kind, stage.alike)
        if mixed := self._mixed.pop(marker, []):
            known = {name: median(values) for name, values in self.rates[marker].items()}
            for seconds, effort in mixed:
                left = max(seconds - sum(known[n] * amount for n, amount in effort.items() if n in known), 0.0)
                unknown = {n: _rate(stage.published_seconds, n) * a for n, a in effort.items() if n not in known}
                for name, weight in unknown.items():
                    self.rates[marker][name].append(left * weight / sum(unknown.values()) / effort[name])
        return self.rates.get(marker, {})


def _rate(each: Mapping[str, float], name: str) -> float:
    """Seconds of a unit of effort `name`; of epochs whose losses add other numbers of passes, in proportion to these."""
    if name.endswith(MORE_PASSES) and "both" in each:
        passes = float(name.removesuffix(MORE_PASSES))
        return each["plain"] + passes * (each["both"] - each["plain"]) / 2
    return each.get(name, 1.0)


def small(stage: Stage) -> bool:
    """Whether it is made of data smaller than the published and of no model that is larger than those meant for a CPU."""
    if isinstance(stage, Data):
        return stage.small
    return stage.weights() <= SMALL_WEIGHTS and all(map(small, stage.inputs().values()))


def _weighed(cost_class: str, effort: Mapping[str, float]) -> str:
    """What else decides a size: the number of videos, and whether an ALOE is only evaluated and leaves no weights."""
    return f"{cost_class} {effort.get('videos', '')} {effort.get('epochs') == 0}"


def _lines(path: Path) -> list[dict[str, Any]]:
    """The timings of a store; a line torn by a crash is left out."""
    if not os.path.exists(path):
        return []
    out = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and {"kind", "alike", "device", "effort", "seconds"} <= line.keys():
            out.append(line)
    return out
