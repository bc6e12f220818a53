"""The world model's validation: its errors on windows of the validation split, and those of trivial predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from ctt.data.dataset import Split
from ctt.data.frames import CPU, place_of, size_of
from ctt.data.sending import Ahead, Packed
from ctt.models.masking import draw_masked
from ctt.models.predictor import Predictor
from ctt.training.batches.window_batches import windows_of
from ctt.training.seeds import generator
from ctt.training.training_settings import WorldModelSettings

VALIDATION_BATCH = 256
MASKED_WINDOWS = 256
"""Validation windows whose masked slots are predicted too: another pass over all windows would cost a sixth of an epoch."""


class Validation:
    """The windows on which the world model is measured, and its errors and those of trivial predictions there. On a device
    everything is summed there, and read once."""

    def __init__(self, settings: WorldModelSettings, split: Split, num_masked_slots: int = 0, device: torch.device = CPU) -> None:
        self.history, self.num_masked_slots, self.masking = settings.history_size, num_masked_slots, settings.masking
        self.device = device
        self.windows = windows_of(settings, split, device=device)
        self.on_device = self.windows.device.type != "cpu"
        self.place = place_of("validation slots", size_of(split.slots, "float32"), device, self.on_device)
        count = min(settings.windows.validation or self.windows.count, self.windows.count)
        chosen = torch.randperm(self.windows.count, generator=generator(0, "validation windows"))[:count]
        self.index = chosen.sort().values.numpy()
        self._starts = range(0, count, VALIDATION_BATCH)
        waits = device.type != "cpu" and not self.on_device
        self._ahead: Ahead[int, Packed] = Ahead(threaded=waits)

    def errors(self, predictor: Predictor) -> dict[str, float]:
        """Mean squared error of the P predicted frames over all windows: of all slots, and of slots whose object is in view."""
        return _means("error", self._sums(lambda history, _: predictor.predict(history)))

    def with_masked(self, predictor: Predictor) -> dict[str, float]:
        """The same, and "masked": the mean squared error of masked slots in the history, frame 0 included, unless training
        masks none. On evenly spaced windows, under masks that are the same for all epochs and runs. It is only logged:
        later stages predict with no slot masked."""
        sums = self._sums(lambda history, _: predictor.predict(history))
        if not self.num_masked_slots:
            return _means("error", sums)
        values = torch.cat([sums, self._masked_error(predictor)[None]]).cpu()
        return _means("error", values[:4]) | {"masked": float(values[4])}

    @cached_property
    def trivial(self) -> dict[str, float]:
        """The same errors, of repeating the last frame and of extrapolating the last two linearly."""
        copied = _means("copy_last", self._sums(lambda h, p: h[:, -1:].expand(-1, p, -1, -1)))
        return copied | _means("linear", self._sums(_extrapolate))

    def _masked_error(self, predictor: Predictor) -> Tensor:
        history, masked, hidden = self._masked_windows
        slots = history.shape[2]
        with torch.no_grad():  # `forward` is not compiled: there are too few windows
            predicted = predictor.forward(history, masked, rows=slice(0, self.history * slots))
        errors = (predicted.view_as(history) - history).double().square().mean((1, 3))  # (B,S)
        return errors.gather(1, hidden).mean()

    @cached_property
    def _masked_windows(self) -> tuple[Tensor, Tensor, Tensor]:
        """The history (B,H,S,D) of some windows, the masks bool (B,S), and the masked slots (B,M)."""
        index = self.index[:: -(-len(self.index) // MASKED_WINDOWS)]
        # masks are drawn per window, unless training masks the same slots in every step
        masking = self.masking if self.masking.draw == "fixed" else dataclasses.replace(self.masking, draw="sample")
        rng = generator(0, "validation masks")
        masked = draw_masked(masking, self.num_masked_slots, len(index), self.windows.slots, rng)
        hidden = masked.nonzero()[:, 1].view(len(index), -1)
        history = self.windows.tensor(index)[:, : self.history].to(self.device)
        sent = Packed({"masked": masked, "hidden": hidden}, self.device).sent()
        return history, sent["masked"], sent["hidden"]

    def _sums(self, predict: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Squared errors of predict(history, P) over all windows, float64 (4,): their sum and number, of all slots and of
        those in view."""
        total = torch.zeros(4, dtype=torch.float64, device=self.device)
        for first in self._starts:
            window, visible = self._batch(first)
            history, truth = window[:, : self.history], window[:, self.history :]
            with torch.no_grad():
                error = (predict(history, truth.shape[1]) - truth).double().square().mean(-1)
            seen = visible[:, self.history :]
            count = torch.full_like(total[0], error.numel())
            total += torch.stack([error.sum(), count, (error * seen).sum(), seen.sum().double()])
        return total

    def _batch(self, first: int) -> tuple[Tensor, Tensor]:
        """The windows from number `first` on, (B,T,S,D), and which of their slots are in view."""
        following = first + VALIDATION_BATCH
        if not self.on_device:
            following_one = following if following in self._starts else None
            found = self._ahead.take(lambda at: Packed(self._tensors(at), self.device), first, following_one).sent()
            return found["slots"], found["visible"]
        rows = self._rows[first:following]
        return self.windows.at(rows), self.windows.visible_at(rows)

    @cached_property
    def _rows(self) -> Tensor:
        """The rows of all windows on the device that holds the slots."""
        return self.windows.rows(self.index).to(self.device)

    def _tensors(self, first: int) -> dict[str, Tensor]:
        index = self.index[first : first + VALIDATION_BATCH]
        return {"slots": self.windows.tensor(index), "visible": torch.from_numpy(self.windows.visible(index))}


def _means(name: str, sums: Tensor) -> dict[str, float]:
    total, count, seen, seen_count = sums.cpu().tolist()
    return {name: total / count, f"{name}_visible": seen / max(seen_count, 1)}


def _extrapolate(history: Tensor, frames: int) -> Tensor:
    """(B,H,S,D) → (B,frames,S,D), continuing the last step's change; copies of the last frame if H = 1."""
    change = history[:, -1:] - history[:, -2:-1] if history.shape[1] > 1 else torch.zeros_like(history[:, -1:])
    steps = torch.arange(1, frames + 1, dtype=history.dtype, device=history.device)
    return history[:, -1:] + change * steps[:, None, None]
