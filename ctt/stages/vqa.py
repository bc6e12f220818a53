"""Stage `vqa`: ALOE trained and evaluated on the given frames and the rolled-out ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ctt.data.dataset import Dataset
from ctt.job import Job
from ctt.models.aloe_settings import AloeSettings
from ctt.stages.base import Stage
from ctt.stages.rollout import Rollout
from ctt.store import Artifact


@dataclasses.dataclass(frozen=True)
class Vqa(Stage):
    """One ALOE training; its artifact holds every validation question's prediction."""

    kind = "vqa"
    version = 1
    rollout: Rollout
    aloe: AloeSettings
    seed: int

    def settings(self) -> Mapping[str, Any]:
        return {"aloe": self.aloe, "seed": self.seed}

    def inputs(self) -> Mapping[str, Stage]:
        return {"data": self.rollout.state.data, "rollout": self.rollout}

    def execution(self) -> dict[str, int]:
        return {"threads": self.aloe.threads, "workers": 1}

    def build(self, job: Job, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        from ctt.training.vqa import train

        dataset = Dataset.open(inputs["data"].path)
        folder = inputs["rollout"].path
        rollouts = {s: np.load(folder / f"rollout_{s}.npy", mmap_mode="r") for s in dataset.splits}
        train(self.aloe, self.seed, dataset, rollouts, job=job)
        return {}
