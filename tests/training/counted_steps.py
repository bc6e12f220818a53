"""`python -m tests.training.counted_steps FOLDER`: trains a model of each kind on the other device; prints as JSON what each
step sent to it and read from it. It needs a process of its own: see tests/other_device.py."""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from ctt.core.build_context import BuildContext
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.method import Method
from ctt.models.model_settings import GraphSettings, MaskingSettings
from ctt.training import trainer, vqa, world_model
from ctt.training.trainer import Segment
from ctt.training.training_settings import WindowSettings
from tests.device_waits import Waits
from tests.other_device import other_device
from tests.training import toy_questions
from tests.training.both_devices import world_settings
from tests.training.small_aloe import SMALL
from tests.training.standin import StandIn
from tests.training.test_diagnostics import with_truth

NEITHER = Method()
BOTH = Method(inv_weight=0.2, suf_weight=0.1, adj_threshold=0.14, start_epoch=0)
WORLDS: dict[str, dict[str, Any]] = {
    "plain": {"method": NEITHER},
    **{source: {"graph": GraphSettings(source=source)} for source in ("attention", "rollout_attention", "learned", "oracle")},
    "jacobian": {"graph": GraphSettings(source="jacobian", projections=2)},
    "published scope": {"graph": GraphSettings(scope="batch", dropout="after"), "share_dropout": False},
    "a mask for each window": {"masking": MaskingSettings(draw="sample")},
    "visible": {"loss_on": "visible"},
    "muon, schedule and average": {"optimizer": "muon", "decay_steps": 10, "average": 0.9},
    "muon in float32": {"optimizer": "muon", "muon_precision": "fp32", "method": NEITHER},
    "learned, slots on the host": {"graph": GraphSettings(source="learned"), "loss_on": "visible", "held": "host"},
}
ALOES: dict[str, dict[str, Any]] = {
    "published": {"tokens": "frames", "words": "tokens", "width": 16, "heads": 2, "ffn": 16, "predicted_frames": None},
    "mini": {"words": "vector", "optimizer": "muon", "muon_precision": "fp32", "average": 0.9, "dropout": 0.0},
    "all frames": {"rollout_frames": "all", "words": "film", "dropout_kind": "cheap"},
    "frames on the host": {"data_device": "host"},
}


class Steps:
    """Counts each step of the trainings in its `with` block, from its start to what the trainer does after it, and the end of
    each epoch (step −1): its logged values and the validation."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []
        self._patches: list[Any] = [
            mock.patch.object(trainer, "CHECKPOINT_SECONDS", math.inf),  # a checkpoint reads everything
            *(
                mock.patch.object(trainer._LearnerModule, name, self._counted(getattr(trainer._LearnerModule, name), name))
                for name in ("training_step", "on_train_batch_end", "on_train_epoch_end")
            ),
        ]

    def _counted(self, inner: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(inner)
        def call(module: Any, *args: Any) -> Any:
            epoch = module.epoch
            with Waits() as waits:
                out = inner(module, *args)
            if name != "on_train_batch_end":
                self.found.append({"epoch": epoch, "step": int(args[0]) if args else -1, "sent": [], "read": []})
            self.found[-1]["sent"] += waits.sent
            self.found[-1]["read"] += waits.read
            return out

        return call

    def __enter__(self) -> Steps:
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()


def world(folder: Path, device: str, method: Method = BOTH, held: str = "auto", **changes: Any) -> None:
    settings = world_settings(dropout=0.1, windows=WindowSettings(per_epoch=32, validation=20, device=held), **changes)
    context = BuildContext(folder, device=device)
    world_model.train(settings, method, 2, 3, with_truth(StandIn()), Segment(2), context=context)  # type: ignore[arg-type]


def aloe(folder: Path, device: str, **changes: Any) -> None:
    dataset, rollouts = toy_questions.make(folder / "toy", 12, 6)
    settings = AloeSettings(**(SMALL | {"dropout": 0.1, "buckets": 3, "batch_size": 8} | changes))
    vqa.train(settings, 3, dataset, rollouts, context=BuildContext(folder, device=device))


def kinds() -> Iterator[tuple[str, Callable[[Path, str], None]]]:
    for name, changes in WORLDS.items():
        yield f"world model, {name}", functools.partial(world, **changes)
    for name, changes in ALOES.items():
        yield f"ALOE, {name}", functools.partial(aloe, **changes)


def main(root: Path) -> None:
    found = {}
    with other_device() as other:
        for number, (name, run) in enumerate(kinds()):
            folder = root / str(number)
            folder.mkdir()
            with Steps() as steps:
                run(folder, other)
            found[name] = steps.found
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
