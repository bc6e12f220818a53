"""Rolling out 32 frames: the reference's windows and the paper's, as published and as ours.

The published code takes a batch of videos at once, one offset after another; ours takes few videos and all their offsets.
With 16 videos even the published way stays in a CPU's cache, and at the reference's windows both are as fast.
"""

from __future__ import annotations

import copy

import torch

from ctt.models.model_settings import PredictorSettings, RolloutSettings
from ctt.models.predictor import Predictor
from ctt.models.rollout import rollout
from tests.benchmarks.harness import Comparison, Ratio, benchmark
from tests.benchmarks.published_world_model import published_rollout
from tests.benchmarks.step import published_twin


@benchmark
def rollout_reference(toy: bool) -> Comparison:
    settings = PredictorSettings(depth=1, heads=2, mlp_width=16) if toy else PredictorSettings()
    return compare(Ratio("rollout_reference", "published", "ours", at_least=1.2), settings, 2 if toy else 64)


@benchmark
def rollout_paper(toy: bool) -> Comparison:
    small = dict(depth=1, heads=2, mlp_width=16) if toy else {}
    settings = PredictorSettings(history_size=6, num_preds=10, frameskip=2, **small)
    return compare(Ratio("rollout_paper", "published", "ours", at_least=8), settings, 2 if toy else 16)


def compare(ratio: Ratio, settings: PredictorSettings, videos: int) -> Comparison:
    slots, width, frames = (3, 16, 32) if videos == 2 else (7, 128, 32)
    torch.manual_seed(0)
    given = torch.randn(videos, 128, slots, width)
    ours = Predictor(settings, width).eval()
    published = published_twin(ours, settings, width).eval()
    chunk = RolloutSettings().batch

    def as_published(x: torch.Tensor = given, model=published) -> torch.Tensor:  # type: ignore[no-untyped-def]
        with torch.no_grad():
            return published_rollout(model, x, settings.frameskip, frames)

    def as_ours(x: torch.Tensor = given, model: Predictor = ours) -> torch.Tensor:
        return torch.cat([rollout(model, part, settings.frameskip, frames) for part in x.split(chunk)])

    def check() -> None:
        few = given[:2].double()
        one, other = (copy.deepcopy(model).double() for model in (ours, published))
        torch.testing.assert_close(as_published(few, other), as_ours(few, one), rtol=1e-9, atol=1e-10)

    return Comparison(
        ways={"published": as_published, "ours": as_ours},
        ratios=[ratio],
        check=check,
        sizes=dict(
            videos=videos,
            frames=frames,
            width=width,
            history=settings.history_size,
            predicted=settings.num_preds,
            frameskip=settings.frameskip,
            chunk=chunk,
        ),
    )
