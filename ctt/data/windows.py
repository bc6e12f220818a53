"""Windows: clips of T = history + predicted frames, `frameskip` apart, the training examples of a world model."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ctt.core.errors import SettingError
from ctt.data.data_format import window_starts
from ctt.data.frames import CPU, frame_rows, seen_rows


class Windows:
    """All windows of slots (V, F, S, D), numbered by video and start; slots are copied only when gathered.

    With `all_starts` a video has every start that fits, F − (T−1)·frameskip windows; without it the last frameskip − 1
    starts are left out, as in the reference trainer: F − T·frameskip + 1 windows.
    store=bf16 holds the slots in memory as bfloat16, at half of their size, instead of reading the memory map.
    device: where the slots are held, and `visible` with them; on the CPU they are read from the memory map.
    Raises SettingError if no window fits.
    """

    def __init__(
        self,
        slots: np.ndarray,
        history_size: int,
        num_preds: int,
        frameskip: int,
        all_starts: bool,
        visible: np.ndarray | None = None,
        store: str = "float32",
        device: torch.device = CPU,
    ) -> None:
        videos, frames = slots.shape[:2]
        length = history_size + num_preds
        self.starts = window_starts(frames, length, frameskip, all_starts)
        if self.starts < 1:
            raise SettingError(
                f"history_size {history_size} + num_preds {num_preds} frames, frameskip {frameskip} apart, "
                f"do not fit into the {frames} given frames"
            )
        if visible is not None and (visible.shape[0] != videos or visible.shape[1] < frames):
            raise SettingError(f"visible {visible.shape} does not match slots {slots.shape}")
        self.count = int(videos * self.starts)
        self._shape = slots.shape
        self.device = device
        self._frames = frame_rows(slots, store, device)
        self._visible = visible
        self._seen = None if visible is None or device.type == "cpu" else seen_rows(visible[:, :frames], device)
        self._offsets = np.arange(length) * frameskip

    def __len__(self) -> int:
        return self.count

    @property
    def slots(self) -> int:
        """Slots of a frame."""
        return int(self._shape[2])

    def gather(self, index: np.ndarray) -> np.ndarray:
        """The windows with the numbers `index` (B,), float32 (B, T, S, D). Raises IndexError if one is out of range."""
        return self.tensor(index).float().cpu().numpy()

    def tensor(self, index: np.ndarray) -> Tensor:
        """The same as a tensor, in the dtype of the store, where the slots are."""
        return self.at(self.rows(index).to(self.device))

    def rows(self, index: np.ndarray) -> Tensor:
        """The rows (B, T) of the windows' frames, on the CPU. Raises IndexError if a number is out of range."""
        video, frame = self._where(index)
        return torch.from_numpy(video * self._shape[1] + frame)

    def at(self, rows: Tensor) -> Tensor:
        """The windows (B, T, S, D) whose frames are these rows (B, T), in the dtype of the store; all where the slots are."""
        return self._frames.index_select(0, rows.reshape(-1)).view(*rows.shape, *self._shape[2:])

    def visible_at(self, rows: Tensor) -> Tensor:
        """`visible` of the windows whose frames are these rows (B, T), where the slots are held on a device."""
        if self._seen is None:
            return torch.ones(*rows.shape, self.slots, dtype=torch.bool, device=self.device)
        return self._seen.index_select(0, rows.reshape(-1)).view(*rows.shape, self.slots)

    def visible(self, index: np.ndarray) -> np.ndarray:
        """Whether each slot's object is in view, bool (B, T, S); all True if that is unknown."""
        video, frame = self._where(index)
        if self._visible is None:
            return np.ones((*frame.shape, self._shape[2]), dtype=bool)
        return np.asarray(self._visible[video, frame])

    def span(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each window's video (B, 1) and all its frames from the window's first to its last, (B, length)."""
        video, frame = self._where(index)
        return video, frame[:, :1] + np.arange(self._offsets[-1] + 1)

    def _where(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        index = np.asarray(index, dtype=np.int64)
        if index.size and not (index.min() >= 0 and index.max() < self.count):
            raise IndexError(f"window {index.min()}..{index.max()} of {self.count}")
        video, start = np.divmod(index, self.starts)
        return video[:, None], start[:, None] + self._offsets
