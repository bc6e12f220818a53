"""Making batches of windows: torch's DataLoader over single clips in memory, and ours from a memory map."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ctt.data.windows import Windows
from tests.benchmarks.harness import Comparison, Ratio, benchmark

HISTORY, PREDICTED, FRAMESKIP = 3, 1, 5


class Clips(Dataset):
    """One window an item, cut out of its video."""

    def __init__(self, videos: list[np.ndarray], starts: int) -> None:
        self.videos, self.starts = videos, starts

    def __len__(self) -> int:
        return len(self.videos) * self.starts

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        video, start = divmod(number, self.starts)
        clip = self.videos[video][start : start + (HISTORY + PREDICTED) * FRAMESKIP]
        return {"slots": torch.tensor(clip[::FRAMESKIP], dtype=torch.float32)}


@benchmark
def windows(toy: bool) -> Comparison:
    videos, batch, batches, width = (3, 8, 2, 16) if toy else (400, 256, 8, 128)
    random = np.random.default_rng(0)
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "slots.npy"
    np.save(path, random.standard_normal((videos, 128, 7, width), dtype=np.float32))
    slots = np.load(path, mmap_mode="r")
    ours = Windows(slots, HISTORY, PREDICTED, FRAMESKIP, all_starts=True)
    half = Windows(slots, HISTORY, PREDICTED, FRAMESKIP, all_starts=True, store="bf16")
    clips = Clips([np.array(video) for video in slots], ours.starts)
    index = random.permutation(len(ours))[: batch * batches].reshape(batches, batch)

    def loader_of(keep: object = folder) -> DataLoader:  # the folder lives as long as this does
        return DataLoader(clips, batch_sampler=index.tolist())  # type: ignore[arg-type]

    def loader() -> None:
        for _ in loader_of():
            pass

    def gathered(from_them: Windows, widened: bool = False) -> Callable[[], None]:
        def all_batches() -> None:
            for numbers in index:
                made = from_them.tensor(numbers)
                if widened:
                    made.float()

        return all_batches

    def check() -> None:
        for clip, numbers in zip(loader_of(), index, strict=True):
            assert torch.equal(ours.tensor(numbers), clip["slots"])
            assert torch.equal(half.tensor(numbers), clip["slots"].bfloat16())

    return Comparison(
        ways={
            "loader": loader,
            "ours": gathered(ours),
            "bf16": gathered(half),
            "widened": gathered(half, widened=True),
        },
        ratios=[
            Ratio("windows", "loader", "ours", at_least=3.5),
            Ratio("windows_bf16", "loader", "bf16", at_least=8),  # as a GPU is handed it
            Ratio("windows_bf16_widened", "loader", "widened"),  # as a step on the CPU takes it
        ],
        check=check,
        sizes=dict(batch=batch, batches=batches, videos=videos, frames=4, slots=7, width=width),
    )
