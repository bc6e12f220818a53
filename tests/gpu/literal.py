"""The literal reference (tests/benchmarks/published_…) in the same process: its rates, and ours over them."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ctt.core.memory import peak_mib, reset_peak
from ctt.models.model_settings import PredictorSettings
from ctt.models.predictor import Predictor
from tests.benchmarks.aloe import Material as Questions
from tests.benchmarks.published_aloe import loss_of
from tests.benchmarks.published_world_model import published_rollout
from tests.benchmarks.step import published_step, published_twin
from tests.gpu.checks import Outcome
from tests.gpu.material import Material


def timed(material: Material, out: Outcome, name: str, call: Callable[[], object], warm: int, times: int) -> float:
    """Seconds of one call, after some that are not counted; recorded as a figure of iterations a second."""
    for _ in range(warm):
        call()
    reset_peak(material.device)
    material.synchronize()
    began = time.perf_counter()
    for _ in range(times):
        call()
    material.synchronize()
    seconds = (time.perf_counter() - began) / times
    rate = round(1 / seconds, 3)
    out.values[name] = {"iterations_per_second": rate, "peak_memory_mib": round(peak_mib(material.device), 1)}
    return seconds


def over(material: Material, out: Outcome, name: str, rate: float, figures: str) -> None:
    """Our figures whose names begin so, as multiples of the literal rate."""
    ours = {key: value for key, value in material.figures.items() if key.startswith(f"{figures}, ") and "batch" not in key}
    out.values[name]["ours_over_it"] = {key: round(value / rate, 2) for key, value in ours.items()}


def world_model(material: Material, out: Outcome) -> None:
    """Steps at the published batch size, in float32, the batch on the device beforehand; and the rollout."""
    batch, small = material.of((2048, {}), (8, dict(depth=1, heads=2, mlp_width=16)))
    settings = PredictorSettings(**small)
    torch.manual_seed(0)
    twin = published_twin(Predictor(settings, 128), settings, 128).to(material.device)
    x = torch.randn(batch, 4, 7, 128).to(material.device)
    warm, times = material.of((4, 12), (1, 1))
    for name, losses in (("plain", False), ("both losses", True)):
        seconds = timed(material, out, name, published_step(twin, x, losses), warm, times)
        over(material, out, name, 1 / seconds, name)
    videos, pieces = torch.randn(material.of(125, 2), 128, 7, 128).to(material.device), material.of(8, 2)
    twin.eval()

    def rolled() -> None:
        with torch.no_grad():
            for _ in range(pieces):
                published_rollout(twin, videos, settings.frameskip, 32).cpu()

    seconds = timed(material, out, "rollout", rolled, 1, 1)
    ours = {key: value for key, value in material.figures.items() if key.startswith("rollout, ")}
    out.values["rollout"] |= {"seconds": round(seconds, 3), "it_over_ours": {k: round(seconds / v, 2) for k, v in ours.items()}}


def aloe(material: Material, out: Outcome) -> None:
    """A step of 96 questions and the answers to one such batch, in bfloat16 (the published code: float16) and in float32; the
    batch is on the device beforehand, which the published loader is not."""
    questions = Questions(material.small)
    batch = {name: value.to(material.device) for name, value in next(questions.published(questions.starts)).items()}
    warm, times = material.of((5, 20), (1, 1))
    for name, enabled in (("bf16", True), ("fp32", False)):
        model = questions.models(0.1)[1].to(material.device)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

        def autocast(enabled: bool = enabled) -> torch.autocast:
            return torch.autocast(torch.device(material.device).type, torch.bfloat16, enabled=enabled)

        def step(model=model, optimizer=optimizer, autocast=autocast) -> None:  # type: ignore[no-untyped-def]
            optimizer.zero_grad(set_to_none=True)
            with autocast():
                loss = loss_of(model, batch)
            loss.backward()
            optimizer.step()

        def answers(model=model, autocast=autocast) -> None:  # type: ignore[no-untyped-def]
            with torch.no_grad(), autocast():
                model(batch)

        seconds = timed(material, out, f"ALOE, {name}", step, warm, times)
        over(material, out, f"ALOE, {name}", 1 / seconds, "ALOE")
        model.eval()
        seconds = timed(material, out, f"evaluation, {name}", answers, warm, times)
        sequences = len(batch["cls_text"]) + len(batch["mc_text"])
        rate = sequences / seconds
        out.values[f"evaluation, {name}"]["sequences_per_second"] = round(rate, 1)
        over(material, out, f"evaluation, {name}", rate, "evaluation")
