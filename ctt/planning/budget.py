"""Budget: what a plan costs in device time and disk, when it can end, and what compiling it saves."""

from __future__ import annotations

import dataclasses
import heapq
from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

from ctt.core.memory import paused_gc
from ctt.planning.compiled_plan import Plan
from ctt.planning.costs import Costs
from ctt.planning.planned_jobs import stages_of


class Budget:
    """The costs of a plan where a store holds the keys `cached`. Seconds are of one device."""

    def __init__(self, plan: Plan, cached: Collection[str] = (), costs: Costs | None = None) -> None:
        self.plan, self.cached, self.costs = plan, set(cached), costs or Costs()

    @cached_property
    def seconds(self) -> dict[str, float]:
        """What each stage takes, continued from its shared prefix."""
        return {key: self.costs.of(s, self.plan.start_of(s)).seconds for key, s in self.plan.stages.items()}

    @cached_property
    def bytes(self) -> dict[str, float]:
        """What each stage leaves on disk."""
        return {key: self.costs.size_of(s) for key, s in self.plan.stages.items()}

    @cached_property
    def _alone(self) -> dict[str, tuple[float, float]]:
        """Seconds of each distinct run's own stages if its world model began at epoch 0; and if it had its own ALOE too."""
        found = {}
        for line, auxiliaries in zip(self.plan.lines, self.plan.auxiliaries, strict=True):
            if line.target.key not in found:
                screened = sum(self.costs.of(stage, None).seconds for stage in (*line.own, *auxiliaries))
                trained = screened
                if (answers := line.answers) is not None and line.aloe_from is not None:
                    other = dataclasses.replace(answers, aloe_from=None)
                    trained += self.costs.of(other, None).seconds - self.costs.of(answers, None).seconds
                found[line.target.key] = (screened, trained)
        return found

    @cached_property
    def _merged(self) -> tuple[float, int]:
        """Seconds and world-model epochs of the runs that were written and merged into others."""
        seconds, epochs = defaultdict[str, float](float), defaultdict[str, int](int)
        for run, line in zip(self.plan.sweep.runs, self.plan.lines, strict=True):
            seconds[run.point.label] += self._alone[line.target.key][1]
            epochs[run.point.label] += line.world_model.epoch
        into = [merged.into for merged in self.plan.sweep.merged]
        return sum(seconds[label] for label in into), sum(epochs[label] for label in into)

    @cached_property
    def saving(self) -> dict[str, float]:
        """Seconds that merging, sharing, screening save, each against the one before; and what of the plan is cached.

        What is made of the data alone is counted once, with and without sharing.
        """
        plan = self.plan
        own = {
            stage.key for line, auxiliaries in zip(plan.lines, plan.auxiliaries, strict=True) for stage in (*line.own, *auxiliaries)
        }
        once = sum(seconds for key, seconds in self.seconds.items() if key not in own and key not in plan.prefixes)
        screened = sum(screened for screened, _ in self._alone.values())
        return {
            "merged": self._merged[0],
            "shared": screened + once - self.total,
            "screened": sum(trained for _, trained in self._alone.values()) - screened,
            "cached": sum(seconds for key, seconds in self.seconds.items() if key in self.cached),
        }

    @cached_property
    def total(self) -> float:
        """Seconds of the plan on an empty store."""
        return sum(self.seconds.values())

    @property
    def naive(self) -> float:
        """Seconds of every run as written, from epoch 0, with an ALOE of its own."""
        return self.total + sum(self.saving[name] for name in ("merged", "shared", "screened"))

    @property
    def left(self) -> float:
        """Seconds of what is not in the store."""
        return self.total - self.saving["cached"]

    @property
    def naive_epochs(self) -> int:
        """World-model epochs of all runs as written, each trained by itself."""
        return self._merged[1] + sum(line.world_model.epoch for line in self.plan.lines)

    @property
    def disk(self) -> float:
        """Bytes of what is not in the store."""
        return sum(size for key, size in self.bytes.items() if key not in self.cached)

    @property
    def critical_path(self) -> float:
        """Seconds until the last job ends, however many devices there are."""
        return self.makespan(max(1, len(self.plan.jobs)))

    def makespan(self, devices: int, done: Mapping[str, float] | None = None) -> float:
        """Seconds until the last job ends on `devices` devices, jobs handed out in order as their needs are met.

        done: what share of a stage is done, by key; without it what is cached is done and nothing else begun.
        """
        shares = dict.fromkeys(self.cached, 1.0) if done is None else done
        left = {key: seconds * (1 - shares.get(key, 0.0)) for key, seconds in self.seconds.items()}
        begin = sum(left[key] for key, stage in self.plan.stages.items() if stage.kind == "data")
        ended = {key: 0.0 for key, share in shares.items() if share >= 1}
        free = [begin] * devices
        last = begin
        for job in self.plan.jobs:
            own = [stage.key for stage in stages_of(job) if stage.key not in ended]
            if not own:
                continue
            ready = max((ended.get(need, 0.0) for need in job.needs), default=0.0)
            end = max(heapq.heappop(free), ready) + sum(left[key] for key in own)
            heapq.heappush(free, end)
            ended |= dict.fromkeys(own, end)
            last = max(last, end)
        return last

    @paused_gc()
    def numbers(self) -> dict[str, Any]:
        """What `ctt plan --json` prints."""
        plan, sweep = self.plan, self.plan.sweep
        runs = sweep.written * len(sweep.seeds)
        return {
            "points": sweep.written,
            "runs": runs,
            "unique_points": len(sweep.points),
            "unique_runs": len(self._alone),
            "merged": len(sweep.merged),
            "branch_points": len(plan.prefixes),
            "stages": [
                {"key": key, "kind": stage.kind, "status": "cached" if key in self.cached else "run"}
                for key, stage in plan.stages.items()
            ],
            "stages_naive": runs * len(plan.kinds),
            "world_model_epochs": plan.world_model_epochs,
            "world_model_epochs_naive": self.naive_epochs,
            "device_seconds": round(self.total, 1),
            "device_seconds_naive": round(self.naive, 1),
            "disk_bytes": round(self.disk),
            "saving": {name: round(value, 1) for name, value in self.saving.items()},
        }
