"""Training states bit for bit on the device: the same training again, branched at an epoch, and resumed within one."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ctt.core.build_context import BuildContext
from ctt.core.errors import Interrupted
from ctt.training import vqa, world_model
from ctt.training.state import MODEL, OPTIMIZER, SIDE, WEIGHTS
from ctt.training.trainer import Segment
from tests.gpu.checks import Outcome
from tests.gpu.material import BOTH_LOSSES, Material, QuietContext

Train = Callable[[Segment, BuildContext], Any]
STOP_AFTER = 3


class Stopping(QuietContext):
    """A context whose process is asked to stop after some steps."""

    done = 0.0

    def progress(self, done: float, total: float, unit: str, **extra: Any) -> None:
        self.done = done
        super().progress(done, total, unit, **extra)

    @property
    def stopping(self) -> bool:
        return self.done >= STOP_AFTER


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (MODEL, OPTIMIZER, SIDE, WEIGHTS) if (folder / name).exists()}


def again_and_resumed(material: Material, train: Train) -> dict[str, bool]:
    """Whether the bits of the same training of two epochs are those of the first one: run again, and interrupted."""
    whole, again, resumed = (material.new_folder() for _ in range(3))
    for folder in (whole, again):
        train(Segment(2), QuietContext(folder, device=material.device))
    with contextlib.suppress(Interrupted):
        train(Segment(2), Stopping(resumed, device=material.device))
    interrupted = not (resumed / MODEL).exists()
    train(Segment(2), QuietContext(resumed, device=material.device))
    expected = bytes_of(whole)
    return {"again": bytes_of(again) == expected, "resumed": interrupted and bytes_of(resumed) == expected}


def branched(material: Material, train: Train) -> bool:
    """Whether two epochs in one segment have the bits of one after the other, from the state between them."""
    whole, prefix, branch = (material.new_folder() for _ in range(3))
    train(Segment(2), QuietContext(whole, device=material.device))
    train(Segment(1), QuietContext(prefix, device=material.device))
    train(Segment(2, 1, prefix), QuietContext(branch, device=material.device))
    return bytes_of(branch) == bytes_of(whole)


def world_models(material: Material, out: Outcome) -> None:
    """Both recipes, with both losses from the second epoch on, and with a network that is trained along."""
    size = material.of(128, 8)
    sizes = (f"world_model.batch_size={size}", f"world_model.windows.per_epoch={4 * size}", "world_model.windows.validation=64")
    method = (*BOTH_LOSSES[:2], "ctt_start_epoch=1", "world_model.epochs=2")
    cases = {"published": "attention", "fast": "attention", "fast, learned graph": "learned"}
    for name, source in cases.items():
        config = material.recipe(name.partition(",")[0], *sizes, *method, f"world_model.graph.source={source}")

        def train(segment: Segment, context: BuildContext, config: Any = config) -> Any:
            settings, masked = config.world_model, config.num_masked_slots
            return world_model.train(settings, config.method(), masked, 3, material.dataset, segment, context=context)

        equal = again_and_resumed(material, train) | {"branched": branched(material, train)}
        out.values[name] = equal
        for what, holds in equal.items():
            out.expect(holds, f"{name}: {what}, and other bits")


def aloes(material: Material, out: Outcome) -> None:
    """With torch's deterministic algorithms; without them gradients of shared slots are summed in any order on a GPU."""
    small = dict(layers=2, batch_size=material.of(256, 16), epochs=2, eval_every=2)
    settings = dataclasses.replace(material.recipe("published").aloe, **small)

    def train(segment: Segment, context: BuildContext) -> Any:
        return vqa.train(settings, 3, material.dataset, material.rollouts, context=context)

    out.values["default"] = again_and_resumed(material, train)
    with deterministic():
        out.values["deterministic"] = again_and_resumed(material, train)
    for what, holds in out.values["deterministic"].items():
        out.expect(holds, f"{what}, and other bits")


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """torch's deterministic algorithms, and attention without fused kernels, whose gradients are not."""
    torch.use_deterministic_algorithms(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.use_deterministic_algorithms(False)
