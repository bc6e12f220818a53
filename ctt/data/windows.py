"""Windows: the clips of T = history + predicted frames, `frameskip` apart, that a world model trains on."""

from __future__ import annotations

import numpy as np

from ctt.errors import SettingError


class Windows:
    """All windows of slots (V, F, S, D), numbered video by video and start by start; nothing is copied until `gather`.

    A window is T frames taken every `frameskip`. `all_starts` takes every start that fits, F − (T−1)·frameskip a video;
    without it the last frameskip − 1 of them are left out, as the reference trainer does: F − T·frameskip + 1.
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
    ) -> None:
        videos, frames = slots.shape[:2]
        length = history_size + num_preds
        self.starts = frames - (length - 1) * frameskip if all_starts else frames - length * frameskip + 1
        if self.starts < 1:
            raise SettingError(
                f"history_size {history_size} + num_preds {num_preds} frames, frameskip {frameskip} apart, "
                f"do not fit into the {frames} given frames"
            )
        if visible is not None and (visible.shape[0] != videos or visible.shape[1] < frames):
            raise SettingError(f"visible {visible.shape} does not belong to slots {slots.shape}")
        self.count = videos * self.starts
        self._slots = slots
        self._visible = visible
        self._offsets = np.arange(length) * frameskip

    def __len__(self) -> int:
        return self.count

    def gather(self, index: np.ndarray) -> np.ndarray:
        """The windows with the numbers `index` (B,), as float32 (B, T, S, D). Raises IndexError past the last one."""
        video, frame = self._where(index)
        return np.ascontiguousarray(self._slots[video, frame], dtype=np.float32)

    def visible(self, index: np.ndarray) -> np.ndarray:
        """Whether each slot's object is in view, bool (B, T, S); all True where that is not known."""
        video, frame = self._where(index)
        if self._visible is None:
            return np.ones((*frame.shape, self._slots.shape[2]), dtype=bool)
        return np.asarray(self._visible[video, frame])

    def _where(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        index = np.asarray(index, dtype=np.int64)
        if index.size and not (index.min() >= 0 and index.max() < self.count):
            raise IndexError(f"window {index.min()}..{index.max()} of {self.count}")
        video, start = np.divmod(index, self.starts)
        return video[:, None], start[:, None] + self._offsets
