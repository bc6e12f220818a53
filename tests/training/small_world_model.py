"""A small world model, its trainings on a stand-in data set, and the files they write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ctt.core.build_context import STATE, BuildContext, read_metrics
from ctt.core.device_use import MEASURED
from ctt.models.method import Method
from ctt.training.state import MODEL, OPTIMIZER, SIDE, WEIGHTS
from ctt.training.trainer import Segment
from ctt.training.training_settings import WindowSettings, WorldModelSettings
from ctt.training.world_model import train
from tests.training.standin import StandIn

SMALL: dict[str, Any] = dict(depth=2, heads=2, mlp_width=24, frameskip=2, batch_size=16, micro_batch=8, num_preds=2)
LOSSES: dict[str, Any] = dict(inv_weight=0.2, suf_weight=0.1, adj_threshold=0.14)


def settings(**changes: Any) -> WorldModelSettings:
    return WorldModelSettings(**{**SMALL, "windows": WindowSettings(per_epoch=80, validation=20), **changes})


def run(
    folder: Path,
    segment: Segment | int,
    *,
    method: Method | None = None,
    data: Any = None,
    seed: int = 3,
    masked: int = 2,
    **changes: Any,
) -> dict[str, Any]:
    """Trains a segment, or from the initial weights to an epoch, into `folder`; returns the metrics."""
    folder.mkdir(exist_ok=True)
    segment = Segment(segment) if isinstance(segment, int) else segment
    made, dataset, context = settings(**changes), data or StandIn(), BuildContext(folder)
    return train(made, method or Method(), masked, seed, dataset, segment, context=context)


def bytes_of(folder: Path) -> dict[str, bytes]:
    """The files of a training state."""
    names = (MODEL, OPTIMIZER, STATE, SIDE, WEIGHTS)
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def lines_of(*folders: Path) -> list[dict[str, Any]]:
    """The metric lines of the folders without what depends on the machine."""
    return [
        {k: v for k, v in line.items() if k not in ("t", *MEASURED)} for f in folders for line in read_metrics(f / "metrics.jsonl")
    ]
