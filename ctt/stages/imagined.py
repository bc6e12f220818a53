"""Stage `imagined`: the given frames of videos without an object, as the world model imagines them, for ALOE to see."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ctt.core.build_context import BuildContext
from ctt.core.settings import digest
from ctt.data.positions.reader_settings import PositionReaderSettings
from ctt.models.model_settings import GraphSettings
from ctt.stages.base import Stage
from ctt.stages.data import Data
from ctt.stages.graph_read import graph_settings
from ctt.stages.reader_fit import ReaderFit
from ctt.stages.removed import RemovedObjects
from ctt.stages.rollout import Rollout
from ctt.stages.world_model import WorldModel
from ctt.store import Artifact

ASKED = 1.866
"""Counterfactual questions for each of CLEVRER's videos: 18,642 of 10,000 in training, 9,333 of 5,000 in validation."""


@dataclasses.dataclass(frozen=True)
class ImaginedVideos(Stage):
    """One video for each pair of a video and an object that some counterfactual question removes, in the rollout's number
    format. What the removal reaches is decided as the position reader does (reader.reach). gc deletes them with rollouts."""

    kind = "imagined"
    resumes = True
    version = 1
    label = "imagined videos"
    published_seconds = {"videos": 0.02}
    demo_seconds = {"videos": 0.03}
    rollout: Rollout
    removed: RemovedObjects
    reader: PositionReaderSettings
    graph: GraphSettings | None = None
    """The slot graph that reader.reach=graph reads, and its threshold."""
    threshold: float = 0.0

    @classmethod
    def of(cls, rollout: Rollout, reader: PositionReaderSettings) -> ImaginedVideos:
        """Those of a run with this rollout."""
        removed = RemovedObjects(ReaderFit.of(rollout.data, reader, rollout.rollout.frames))
        if reader.reach != "graph":
            return cls(rollout, removed, reader)
        state = rollout.world_model
        return cls(rollout, removed, reader, state.world_model.graph, state.method.adj_threshold)

    @property
    def state(self) -> WorldModel:
        return self.rollout.world_model

    @property
    def data(self) -> Data:
        return self.rollout.data

    def settings(self) -> Mapping[str, Any]:
        found = {"reach": self.reader.reach, "dtype": self.rollout.rollout.dtype}
        return found | graph_settings(self.graph, self.threshold)

    def inputs(self) -> Mapping[str, Stage]:
        return {"data": self.data, "probe": self.removed.probe, "removed": self.removed, "world_model": self.state}

    def effort(self, start: Stage | None) -> dict[str, float]:
        return {"videos": float(self.data.data.train + self.data.data.validation)}

    def cost_class(self) -> str:
        return digest([self.kind, self.version, self.state.alike, *self.settings().values()])

    def size(self) -> float:
        found = self.data.data.format
        numbers = ASKED * self.effort(None)["videos"] * found.frames * found.slots * found.width
        return float(numbers * self.rollout.rollout.number_bytes)

    def execution(self) -> dict[str, int]:
        return {"threads": self.state.world_model.threads, "workers": 1}

    def build(self, context: BuildContext, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        from ctt.data.dataset import Dataset
        from ctt.training.positions.imagined_videos import imagine_videos
        from ctt.training.slot_graphs import SlotGraph

        imagine_videos(
            self.reader,
            self.state.world_model,
            None if self.graph is None else SlotGraph(self.graph, self.threshold),
            self.rollout.rollout.dtype,
            inputs["probe"].path,
            inputs["removed"].path,
            inputs["world_model"].path,
            Dataset.open(inputs["data"].path),
            context=context,
        )
        return dict(inputs["removed"].manifest["facts"])
