"""One of several processes that train one model, as torchrun starts it: python -m tests.training.several FOLDER [SCENARIO].

Each scenario writes its state to FOLDER/NAME, and every process its final parameters to FOLDER/NAME.RANK.pt.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import torch

from ctt.core import build_context
from ctt.core.build_context import BuildContext
from ctt.core.errors import Diverged, Interrupted
from ctt.core.process_group import ProcessGroup, of_environment
from ctt.models.method import Method
from ctt.models.model_settings import GraphSettings, MaskingSettings
from ctt.training import world_model
from ctt.training.trainer import Segment
from ctt.training.training_settings import WindowSettings, WorldModelSettings
from tests.training.standin import StandIn

SMALL = dict(depth=1, heads=2, mlp_width=16, frameskip=2, batch_size=15, micro_batch=4, num_preds=2, dropout=0.0)
METHOD = Method(inv_weight=0.3, suf_weight=0.2, adj_threshold=0.15, start_epoch=1)
SCENARIOS = {
    "whole batch": dict(graph=GraphSettings(scope="batch"), masking=MaskingSettings(draw="fixed"), loss_on="visible", average=0.9),
    "dropout": dict(dropout=0.1),
    "learned graph": dict(graph=GraphSettings(source="learned")),
}


def train(folder: Path, name: str, group: ProcessGroup, stop_at: tuple[int, int] | None = None) -> None:
    """Three epochs; `stop_at`: one process, not the writer, is asked to stop in that step."""
    settings = WorldModelSettings(**{**SMALL, "windows": WindowSettings(per_epoch=60, validation=20), **SCENARIOS[name]})
    learners = []
    original = world_model.WorldModelLearner.gradients

    def gradients(self, epoch, step):  # type: ignore[no-untyped-def]
        if (epoch, step) == stop_at and group.rank == group.size - 1:
            build_context._stop.set()
        learners[:] = [self]
        return original(self, epoch, step)

    folder.mkdir(exist_ok=True)
    with mock.patch.object(world_model.WorldModelLearner, "gradients", gradients):
        world_model.train(settings, METHOD, 2, 3, StandIn(), Segment(3), context=BuildContext(folder, group=group))
    torch.save(learners[0].model.state_dict(), folder.with_suffix(f".{group.rank}.pt"))


def main(root: Path, *names: str) -> None:
    """Runs the scenarios named; by default all, then stopping and divergence."""
    group = of_environment()
    group.connect()
    for name in names or SCENARIOS:
        train(root / name, name, group)
    if not names:
        stop_all(root, group)
    group.close()


def stop_all(root: Path, group: ProcessGroup) -> None:
    """Checks that all processes stop when one is asked to, or diverges; the stopped training is then resumed."""
    try:
        train(root / "stopped", "dropout", group, stop_at=(1, 2))
        raise AssertionError("it was asked to stop")
    except Interrupted:
        build_context._stop.clear()
        assert (root / "stopped" / "checkpoint").is_dir() or not group.writer
    train(root / "stopped", "dropout", group)
    broken = mock.patch.object(world_model.WorldModelLearner, "gradients", lambda *_: {"train_loss": torch.tensor(nan)})
    nan = float("nan") if group.rank else 1.0
    try:
        with broken:
            train(root / "diverged", "dropout", group)
        raise AssertionError("it diverged in one process")
    except Diverged:
        pass


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
