"""Branch points: where trainings that begin alike part. Sharing prefixes of runs is Hippo's idea (Shin et al., PVLDB 15(5), 2022).

Two trainings of a seed are the same up to the first epoch in which a loss acts that the other has not, or up to the end
of the shorter one. Each such state is kept; everything that passes through it is trained once.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

from ctt.models.method import Method
from ctt.stages.world_model import WorldModel


@dataclasses.dataclass(frozen=True)
class BranchPoint:
    """A state on the way of a training that others reach too: after `epoch` epochs of the course `line`."""

    epoch: int
    line: Hashable


def branch_points_of(states: Sequence[WorldModel]) -> list[tuple[BranchPoint, ...]]:
    """For each training, given by its last state, the branch points on its way, in order. One pass over (start, length) pairs."""
    families = [dataclasses.replace(s, method=Method(), epoch=1, prefix=None).course for s in states]
    ends: dict[Hashable, dict[tuple[int, float], set[Hashable]]] = defaultdict(lambda: defaultdict(set))
    for state, family in zip(states, families, strict=True):
        ends[family][state.epoch, _plain_until(state)].add(state.course)
    found = []
    for state, family in zip(states, families, strict=True):
        plain = _plain_until(state)
        epochs: set[int] = set()
        for (epoch, other_plain), courses in ends[family].items():
            if len(courses) > (state.course in courses):  # another course: apart once either has a loss in it
                epochs.add(int(min(state.epoch, epoch, plain, other_plain)))
            if state.course in courses:
                epochs.add(min(state.epoch, epoch))
        way = sorted(e for e in epochs if 0 < e < state.epoch)
        found.append(tuple(BranchPoint(e, family if e <= plain else state.course) for e in way))
    return found


def _plain_until(state: WorldModel) -> float:
    """The epoch from which on a CTT loss acts."""
    return state.method.start_epoch if state.lossy else math.inf


class SharedPrefixes:
    """The states that runs share, each one object, so that its key is computed once."""

    def __init__(self) -> None:
        self._known: dict[tuple[BranchPoint, int, str], WorldModel] = {}

    def through(self, state: WorldModel, branch_points: Sequence[BranchPoint]) -> WorldModel:
        """`state`, trained by way of `branch_points`."""
        prefix = None
        for branch_point in branch_points:
            marker = (branch_point, state.seed, state.alone)
            if marker not in self._known:
                self._known[marker] = dataclasses.replace(state, epoch=branch_point.epoch, prefix=prefix)
            prefix = self._known[marker]
        return dataclasses.replace(state, prefix=prefix)
