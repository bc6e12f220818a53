"""The main line of a run: data → world model → rollout → ALOE's answers. Its parts are named by what they do.

A run's target is the last stage of its main line. Where there are no questions that is the rollout. Between rollout and
answers are imagined videos, where ALOE sees any.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

from ctt.stages.base import Stage
from ctt.stages.data import Data
from ctt.stages.imagined import ImaginedVideos
from ctt.stages.imported_weights import ImportedWeights
from ctt.stages.rollout import Rollout
from ctt.stages.vqa import Vqa
from ctt.stages.world_model import WorldModel

Target: TypeAlias = Rollout | Vqa
KINDS = (Data.kind, WorldModel.kind, Rollout.kind, ImaginedVideos.kind, Vqa.kind)
"""The kinds of the main line's stages, in the order they are built; every other kind is of auxiliary stages."""


@dataclasses.dataclass(frozen=True)
class MainLine:
    """The stages of a run by role. `answers` is None where there are no questions to answer."""

    data: Data
    world_model: WorldModel
    rollout: Rollout
    answers: Vqa | None = None

    @classmethod
    def of(cls, target: Target) -> MainLine:
        """The main line that ends with `target`."""
        answers = target if isinstance(target, Vqa) else None
        rollout = target.rollout if isinstance(target, Vqa) else target
        return cls(rollout.data, rollout.world_model, rollout, answers)

    @property
    def target(self) -> Target:
        return self.rollout if self.answers is None else self.answers

    @property
    def aloe_from(self) -> Vqa | None:
        """The run whose ALOE answers this run's questions; None if it has an ALOE of its own or of a file, or no questions."""
        other = None if self.answers is None else self.answers.aloe_from
        return None if isinstance(other, ImportedWeights) else other

    @property
    def own(self) -> tuple[Stage, ...]:
        """The stages after the data, which runs share: the world model, the rollout, and if there are any the imagined videos
        and the answers."""
        if self.answers is None:
            return (self.world_model, self.rollout)
        imagined = () if self.answers.imagined is None else (self.answers.imagined,)
        return (self.world_model, self.rollout, *imagined, self.answers)

    @property
    def prefix(self) -> tuple[WorldModel, ...]:
        """The branch points that the world model's training goes through, the first one first."""
        found: list[WorldModel] = []
        state = self.world_model.prefix
        while state is not None:
            found.insert(0, state)
            state = state.prefix
        return tuple(found)

    @property
    def training(self) -> tuple[WorldModel, ...]:
        """The states of the world model's training, from the first branch point on."""
        return (*self.prefix, self.world_model)

    def with_inputs(self, auxiliaries: Sequence[Stage] = ()) -> list[Stage]:
        """The stages after the data and the given auxiliary ones, each after those that it reads and that are not of the main
        line; each once. What another run's ALOE was made of is not the run's own."""
        found: dict[str, Stage] = {}
        for stage in (*self.own, *auxiliaries):
            read = [] if stage is self.answers else self.beneath(stage)
            found |= {other.key: other for other in (*read, stage)}
        return list(found.values())

    def beneath(self, stage: Stage) -> list[Stage]:
        """The stages that a stage reads and that are not of the main line, each after those it reads."""
        main = {stage.key for stage in (self.data, *self.own)}
        found: dict[str, Stage] = {}

        def visit(reading: Stage) -> None:
            for other in reading.inputs().values():
                if other.key not in main and other.key not in found:
                    visit(other)
                    found[other.key] = other

        visit(stage)
        return list(found.values())
