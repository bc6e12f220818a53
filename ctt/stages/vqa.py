"""Stage `vqa`: ALOE, trained and evaluated on the given, the rolled-out and the imagined frames, or only evaluated on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ctt.core.build_context import BuildContext
from ctt.core.settings import canonical_form, digest
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.stages.base import Stage
from ctt.stages.imagined import ImaginedVideos
from ctt.stages.rollout import Rollout
from ctt.stages.sizes import PROJECTED, bytes_of_training, layers
from ctt.store import Artifact


@dataclasses.dataclass(frozen=True)
class Vqa(Stage):
    """The predictions for all validation questions, by an ALOE trained here or, for screening, by that of `aloe_from`."""

    kind = "vqa"
    resumes = True
    version = 4
    label = "ALOE"
    published_seconds = {"epochs": 110.0, "evaluations": 24.0}  # 10,000 training videos
    demo_seconds = {"epochs": 21.6, "evaluations": 1.7}
    rollout: Rollout
    aloe: AloeSettings
    seed: int
    aloe_from: Vqa | None = None
    imagined: ImaginedVideos | None = None
    """The videos that counterfactual questions see instead of the observed ones, with aloe.rollout_frames=counterfactual."""

    def settings(self) -> Mapping[str, Any]:
        """`seed` is ALOE's seed: aloe_seed if set, else the run's."""
        own = self.aloe.aloe_seed
        aloe = self.aloe.remembered("settings", lambda: canonical_form(self.aloe).without("protocol", "aloe_seed", "tensors"))
        return {"aloe": aloe, "seed": self.seed if own is None else own}

    def inputs(self) -> Mapping[str, Stage]:
        inputs: dict[str, Stage] = {"data": self.rollout.data}
        if self.imagined is not None:  # what the data cannot give is found before anything is trained
            inputs["removed"] = self.imagined.removed
        inputs["rollout"] = self.rollout
        if self.imagined is not None:
            inputs["imagined"] = self.imagined
        if self.aloe_from is not None:
            inputs["model"] = self.aloe_from
        return inputs

    def effort(self, start: Stage | None) -> dict[str, float]:
        return {"epochs": 0.0 if self.aloe_from else float(self.aloe.epochs), "evaluations": 1.0}

    def cost_class(self) -> str:
        counts, sizes = self.rollout.data.data.counts(), self.rollout.data.data.format.other_sizes

        def made() -> str:
            settings = {k: v for k, v in canonical_form(self.aloe).items() if k not in ("epochs", "aloe_seed", "protocol")}
            return digest([self.kind, self.version, settings, self.aloe.threads, counts, *sizes])

        return self.aloe.remembered(("cost class", *counts.items(), *sizes), made)

    def weights(self) -> int:
        return layers(self.aloe.layers, self.aloe.width, self.aloe.ffn)

    def size(self) -> float:
        """Predictions, and the training state if ALOE is trained here."""
        predictions = 8e3 + 500.0 * self.rollout.data.data.validation
        if self.aloe_from is not None:
            return predictions
        aloe, weights = self.aloe, self.weights() + PROJECTED * self.aloe.width
        return predictions + bytes_of_training(weights, aloe.optimizer == "muon", aloe.average is not None)

    def execution(self) -> dict[str, int]:
        return {"threads": self.aloe.threads, "workers": 1}

    def build(self, context: BuildContext, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        import numpy as np

        from ctt.data.dataset import Dataset
        from ctt.training.imagined_frames import ImaginedFrames
        from ctt.training.vqa import screen, train

        dataset = Dataset.open(inputs["data"].path)
        folder = inputs["rollout"].path
        rollouts = {s: np.load(folder / f"rollout_{s}.npy", mmap_mode="r") for s in dataset.splits}
        imagined = None
        if self.imagined is not None:
            imagined = ImaginedFrames.open(inputs["removed"].path, inputs["imagined"].path)
        if self.aloe_from is None:
            train(self.aloe, self.seed, dataset, rollouts, imagined, context=context)
        else:
            screen(self.aloe, self.seed, inputs["model"].path, dataset, rollouts, imagined, context=context)
        return {"screened": self.aloe_from is not None}
