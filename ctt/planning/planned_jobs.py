"""Jobs: what processes are asked for, and in which order."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Sequence

from ctt.config import Config
from ctt.planning.costs import Costs
from ctt.stages.base import Stage
from ctt.stages.main_line import MainLine
from ctt.stages.rollout import Rollout
from ctt.stages.vqa import Vqa
from ctt.stages.world_model import WorldModel


@dataclasses.dataclass(frozen=True)
class PlannedJob:
    """What one process is asked for: `target`, after the jobs whose targets are in `needs`, and then its `auxiliaries`."""

    target: Stage
    auxiliaries: tuple[Stage, ...]
    config: Config
    branch_epochs: tuple[int, ...]
    teacher: tuple[Config, tuple[int, ...]] | None  # the screened run's baseline: its config and branch points
    needs: frozenset[str]
    label: str

    @property
    def prefix(self) -> bool:
        return isinstance(self.target, WorldModel)

    def finished(self, has: Callable[[str], bool]) -> bool:
        """Whether nothing is left to do; `has`: whether a key is in the store."""
        return all(has(stage.key) for stage in (self.target, *self.auxiliaries))


def stages_of(job: PlannedJob) -> list[Stage]:
    """What a job builds once its needs are met and the data is there."""
    if not isinstance(job.target, Rollout | Vqa):
        return [job.target]
    return MainLine.of(job.target).with_inputs(job.auxiliaries)


def by_urgency(jobs: Sequence[PlannedJob]) -> tuple[PlannedJob, ...]:
    """Jobs by the longest way from their beginning to the end of all that waits for them, at published costs.

    A job comes after those it needs: its way is a part of theirs (list scheduling by critical path; Graham 1969).
    """
    costs = Costs()
    waiting = defaultdict[str, list[PlannedJob]](list)
    for job in jobs:
        for need in job.needs:
            waiting[need].append(job)
    ways: dict[str, float] = {}

    def way(job: PlannedJob) -> float:
        key = job.target.key
        if key not in ways:
            after = max((way(other) for other in waiting[key]), default=0.0)
            own = sum(costs.of(stage, next(iter(stage.branch_points()), None)).seconds for stage in stages_of(job))
            ways[key] = own + after
        return ways[key]

    return tuple(sorted(jobs, key=lambda job: -way(job)))
