"""What `world_model.compile=true` does to a training step with both losses: `python -m tests.benchmarks.compiled_step`.

No benchmark of `make bench`: each kind of step takes minutes to compile. One thread, seconds of the CPU.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from rich.console import Console

from ctt.models.model_settings import PredictorSettings
from ctt.models.predictor import Predictor
from tests.benchmarks.harness import CLOCKS, Comparison, Measured, Ratio, measure
from tests.benchmarks.step import MICRO_BATCH, our_step

BATCH, SLOTS, WIDTH = 64, 7, 128
KINDS = {"exact dropout": ("exact", "fp32"), "cheap dropout": ("cheap", "fp32"), "bf16": ("cheap", "bf16")}


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings = PredictorSettings()
    x = torch.randn(BATCH, settings.history_size + settings.num_preds, SLOTS, WIDTH)
    eager = Predictor(settings, WIDTH)
    for name, (dropout, precision) in KINDS.items():
        torch.compiler.reset()
        compiled = copy.deepcopy(eager)
        compiled.compile()
        ways: dict[str, Callable[[], object]] = {
            "eager": our_step(copy.deepcopy(eager), x, dropout, MICRO_BATCH, precision),
            "compiled": our_step(compiled, x, dropout, MICRO_BATCH, precision),
        }
        began = time.perf_counter()
        ways["compiled"]()
        took = time.perf_counter() - began
        comparison = Comparison(ways, [Ratio(name, "eager", "compiled")], check=lambda: None)
        for measured in measure(comparison, rounds=5, clock=CLOCKS["cpu"]):
            if isinstance(measured, Measured):
                low, high = measured.spread
                text = f"{name}: eager over compiled {measured.value:.2f} ({low:.2f} to {high:.2f}), first step {took:.0f} s"
                Console().print(text, highlight=False)


if __name__ == "__main__":
    main()
