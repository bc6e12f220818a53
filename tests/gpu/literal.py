"""The literal reference (tests/benchmarks/published_…) in the same process: its rates."""

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


def timed(material: Material, out: Outcome, name: str, call: Callable[[], object], calls: tuple[int, int], units: int = 1) -> None:
    """Records `units` a second of the calls after the first ones, which are not counted. calls: how many of both."""
    warm, times = calls
    for _ in range(warm):
        call()
    reset_peak(material.device)
    material.synchronize()
    began = time.perf_counter()
    for _ in range(times):
        call()
    material.synchronize()
    rate = times * units / (time.perf_counter() - began)
    material.literal[name] = rate
    out.values[name] = {"per_second": round(rate, 3), "peak_memory_mib": round(peak_mib(material.device), 1)}


def world_model(material: Material, out: Outcome) -> None:
    """Steps at the published batch size, in float32, the batch on the device beforehand; and the rollout."""
    batch, small = material.of((2048, {}), (8, dict(depth=1, heads=2, mlp_width=16)))
    settings = PredictorSettings(**small)
    torch.manual_seed(0)
    twin = published_twin(Predictor(settings, 128), settings, 128).to(material.device)
    x = torch.randn(batch, 4, 7, 128).to(material.device)
    for name, losses in (("plain", False), ("both losses", True)):
        timed(material, out, name, published_step(twin, x, losses), material.of((4, 12), (1, 1)))
    videos = torch.randn(material.of(125, 2), 128, 7, 128).to(material.device)
    twin.eval()

    def rolled() -> None:
        with torch.no_grad():
            published_rollout(twin, videos, settings.frameskip, 32).cpu()

    timed(material, out, "rollout", rolled, material.of((2, 8), (1, 1)), units=len(videos))


def aloe(material: Material, out: Outcome) -> None:
    """A step of 96 questions and the answers to one such batch, in bfloat16 (the published code: float16) and in float32; the
    batch is on the device beforehand, which the published loader is not."""
    questions = Questions(material.small)
    batch = {name: value.to(material.device) for name, value in next(questions.published(questions.starts)).items()}
    calls, sequences = material.of((5, 20), (1, 1)), len(batch["cls_text"]) + len(batch["mc_text"])
    for name, enabled in (("bf16", True), ("fp32", False)):
        model = questions.models(0.1)[1].to(material.device)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        kind = torch.device(material.device).type

        def step(model=model, optimizer=optimizer, enabled=enabled, kind=kind) -> None:  # type: ignore[no-untyped-def]
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(kind, torch.bfloat16, enabled=enabled):
                loss = loss_of(model, batch)
            loss.backward()
            optimizer.step()

        def answers(model=model, enabled=enabled, kind=kind) -> None:  # type: ignore[no-untyped-def]
            with torch.no_grad(), torch.autocast(kind, torch.bfloat16, enabled=enabled):
                model(batch)

        timed(material, out, f"ALOE, {name}", step, calls)
        model.eval()
        timed(material, out, f"evaluation, {name}", answers, calls, units=sequences)


def ours_over(material: Material) -> dict[str, dict[str, float]]:
    """Our figures as multiples of the literal ones of the same thing: by the literal one, then by how ours was made."""
    found: dict[str, dict[str, float]] = {}
    for name, rate in material.literal.items():
        what = name.partition(", ")[0]
        ours = {key: value for key, value in material.figures.items() if key.startswith(f"{what}, ") and "graph" not in key}
        found[name] = {key.partition(", ")[2]: round(value / rate, 3) for key, value in ours.items()}
    return found
