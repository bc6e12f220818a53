"""A small ALOE, its trainings on toy questions, and the files they write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ctt.core.build_context import METRICS, BuildContext, read_metrics
from ctt.core.device_use import MEASURED
from ctt.data.dataset import Dataset
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.training.imagined_frames import Imaginations
from ctt.training.state import WEIGHTS
from ctt.training.vqa import train

SMALL: dict[str, Any] = dict(
    layers=2,
    heads=4,
    width=32,
    ffn=64,
    dropout=0.0,
    equal_layers=False,
    tokens="trajectory",
    frames=8,
    predicted_frames=2,
    batch_size=32,
    buckets=2,
    learning_rate=3e-3,
    epochs=2,
)
FILES = ("model.safetensors", "optimizer.safetensors", "predictions.parquet")
Toy = tuple[Dataset, dict[str, np.ndarray]]


def run(
    folder: Path, toy: Toy, seed: int = 0, rollouts: bool = True, imagined: Imaginations | None = None, **changes: Any
) -> dict[str, Any]:
    """Trains into `folder`; returns the metrics."""
    dataset, predicted = toy
    folder.mkdir(exist_ok=True)
    settings, given = AloeSettings(**(SMALL | changes)), predicted if rollouts else None
    return train(settings, seed, dataset, given, imagined, context=BuildContext(folder))


def bytes_of(folder: Path) -> dict[str, bytes]:
    """The files of a finished training; with `weights.safetensors` where the weights are averaged."""
    names = [*FILES, *([WEIGHTS] if (folder / WEIGHTS).exists() else [])]
    return {name: (folder / name).read_bytes() for name in names}


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """The metric lines without what depends on the machine."""
    return [{k: v for k, v in line.items() if k not in ("t", *MEASURED)} for line in read_metrics(folder / METRICS)]
