"""What the checks run on: the device, recipes, and a synthetic data set in CLEVRER's sizes."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from ctt.config import Config, compose
from ctt.core.build_context import BuildContext
from ctt.data.data_settings import DataSettings
from ctt.data.dataset import Dataset
from ctt.data.synthetic.writing import generate

FAST = (
    "world_model=default",
    "aloe=default",
    "world_model.precision=bf16",
    "world_model.dropout_kind=cheap",
    "world_model.windows.store=bf16",
)
RECIPES = {
    "published": ("world_model=reference", "aloe=reference"),
    "tf32": ("world_model=reference", "aloe=reference", "world_model.precision=tf32", "aloe.precision=tf32"),
    "fast": FAST,
    "compiled": (
        *FAST,
        *(f"{group}.{name}" for group in ("world_model", "aloe") for name in ("compile=true", "compile_mode=reduce-overhead")),
    ),
}
"""Ways to train: as published (fp32; ALOE in bfloat16), that in TensorFloat-32, the faster settings, and those by CUDA graphs."""
BOTH_LOSSES = ("ctt_inv_weight=0.2", "ctt_suf_weight=0.1", "ctt_start_epoch=0")
TINY = (
    *("world_model.depth=1", "world_model.heads=2", "world_model.mlp_width=16", "world_model.batch_size=8"),
    *("aloe.layers=1", "aloe.heads=2", "aloe.width=16", "aloe.ffn=16", "aloe.head_hidden=8", "aloe.batch_size=8"),
)


class QuietContext(BuildContext):
    """A training of a few steps predicts worse than repeating the last frame, which is no news."""

    def warn(self, text: str | None) -> None:
        pass


class Material:
    """small: sizes at which everything runs on a CPU in a minute, and measures nothing."""

    def __init__(self, device: str, small: bool, folder: Path) -> None:
        self.device, self.small, self.folder = device, small, folder
        self.figures: dict[str, float] = {}
        """Ours by "WHAT, HOW": iterations a second, of evaluations sequences, of rollouts videos."""
        self.literal: dict[str, float] = {}
        """The literal reference's by "WHAT" or "WHAT, HOW"."""
        self._folders = iter(range(10**6))

    @property
    def on_gpu(self) -> bool:
        return torch.device(self.device).type == "cuda"

    def of(self, full: Any, small: Any) -> Any:
        """One of two sizes."""
        return small if self.small else full

    def recipe(self, name: str, *overrides: str) -> Config:
        return compose([*RECIPES[name], *(TINY if self.small else ()), *overrides])

    def new_folder(self) -> Path:
        path = self.folder / f"run{next(self._folders)}"
        path.mkdir()
        return path

    def context(self) -> QuietContext:
        return QuietContext(self.new_folder(), device=self.device)

    @cached_property
    def dataset(self) -> Dataset:
        """Scenes with questions and ground truth."""
        folder = self.new_folder()
        train, validation = self.of((160, 16), (4, 2))
        workers = self.of(len(os.sched_getaffinity(0)), 1)
        generate(DataSettings(train=train, validation=validation, workers=workers), BuildContext(folder))
        return Dataset.open(folder)

    @cached_property
    def rollouts(self) -> dict[str, np.ndarray]:
        """Noise in place of predicted frames."""
        random = np.random.default_rng(0)
        shapes = {name: (len(self.dataset.split(name).slots), 32, 7, 128) for name in self.dataset.splits}
        return {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}

    @cached_property
    def many(self) -> Any:
        """A data set whose training split has the same videos over and over, as many as an epoch of 60 steps needs."""
        train, videos = self.dataset.split("train"), self.of(1200, 4)
        slots, visible = (np.resize(array, (videos, *array.shape[1:])) for array in (train.slots, train.visible))
        return self._set_of(slots, visible)

    def videos(self, count: int) -> Any:
        """A data set of the first `count` of these, without validation."""
        made = self._set_of(self.many.split("train").slots[:count], None)
        made.splits = ("train",)
        return made

    def _set_of(self, slots: np.ndarray, visible: np.ndarray | None) -> Any:
        train = SimpleNamespace(slots=slots, visible=visible, future=None, format=self.dataset.format)
        splits = {"train": train, "validation": self.dataset.split("validation")}
        return SimpleNamespace(split=splits.__getitem__, splits=tuple(splits), format=self.dataset.format)

    def synchronize(self) -> None:
        """Waits until the device has done all that it was given."""
        if self.on_gpu:
            torch.cuda.synchronize()

    @contextlib.contextmanager
    def own_state(self) -> Iterator[None]:
        """Nothing of a check remains for the next one: compiled code, memory, torch's global settings."""
        precision, deterministic = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()
        try:
            with traced() if self.small else contextlib.nullcontext():
                yield
        finally:
            torch.set_float32_matmul_precision(precision)
            torch.use_deterministic_algorithms(deterministic)
            torch.compiler.reset()
            gc.collect()
            if self.on_gpu:
                torch.cuda.empty_cache()


@contextlib.contextmanager
def traced() -> Iterator[None]:
    """In the block torch.compile traces code, and runs it as it is: its compiler takes minutes on a CPU."""
    made = nn.Module.compile

    def compile(module: nn.Module, mode: str, dynamic: bool | None) -> None:
        made(module, backend="eager", dynamic=dynamic)

    with mock.patch.object(nn.Module, "compile", compile):
        yield
