"""What each step of the world model is computed on: windows and random choices.

All of it is drawn on the host, the same for every device, and sent in one transfer: the numbers of the windows, which are
gathered where the slots are held; where they do not fit on a device, the windows themselves, gathered a step ahead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ctt.core.errors import SettingError
from ctt.core.process_group import ALONE, ProcessGroup
from ctt.data.dataset import Split
from ctt.data.frames import CPU, fits, place_of, size_of
from ctt.data.sending import Ahead, Packed
from ctt.data.windows import Windows
from ctt.models.draws import Draws, draw_slots
from ctt.models.graphs.graph_source import graph_source
from ctt.models.losses.loss_term import acting
from ctt.models.masking import draw_masked
from ctt.models.method import Method
from ctt.training.seeds import generator
from ctt.training.slot_graphs import TrueInteractions
from ctt.training.training_settings import WorldModelSettings

TERM = "drawn by "


@dataclass(frozen=True)
class WindowBatch:
    """The windows of a step, float32 (B,T,S,D), with its draws, on the device. visible bool (B,T,S): what counts in losses,
    None: all; drawn: what the graph's source drew; touching bool (B,S,S): the true interactions, where it needs them;
    learned: the windows that its network learns from."""

    slots: Tensor
    draws: Draws
    visible: Tensor | None
    drawn: Tensor | None
    touching: Tensor | None
    learned: Tensor | None


class WindowBatches:
    """The batches of a training. group: the processes that share them. Raises SettingError if an epoch has no batch."""

    group: ProcessGroup = ALONE

    def __init__(
        self, settings: WorldModelSettings, method: Method, num_masked_slots: int, seed: int, split: Split, device: torch.device
    ) -> None:
        self.settings, self.method, self.num_masked_slots, self.seed = settings, method, num_masked_slots, seed
        self.device, self.source = device, graph_source(settings.graph.source)
        self.windows = windows_of(settings, split, settings.windows.store, device)
        self.on_device = self.windows.device.type != "cpu"
        self.place = place_of("training slots", size_of(split.slots, settings.windows.store), device, self.on_device)
        self.drawn = min(settings.windows.per_epoch or self.windows.count, self.windows.count)
        self.steps = self.drawn // settings.batch_size
        if self.steps == 0:
            raise SettingError(f"world_model.batch_size {settings.batch_size} is more than the {self.drawn} windows of an epoch")
        self.numbers = settings.num_preds * split.slots.shape[3]
        self.truth = None
        if self.source.needs_truth and method.active(settings.epochs - 1):
            self.truth = TrueInteractions(split, self.windows)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))
        waits = device.type != "cpu" and not self.on_device  # gathering slots takes too long to do it between two steps
        self._ahead: Ahead[tuple[int, int], Packed] = Ahead(threaded=waits)

    def batch(self, epoch: int, step: int) -> WindowBatch:
        """What step `step` of epoch `epoch` is computed on."""
        following = (epoch, step + 1) if step + 1 < self.steps else None
        found = self._ahead.take(lambda at: Packed(self._tensors(at), self.device), (epoch, step), following).sent()
        slots, visible = self._gathered(found, ""), found.get("visible")
        if self.on_device and self.settings.loss_on == "visible":
            visible = self.windows.visible_at(found["rows"])
        terms = {name.removeprefix(TERM): value for name, value in found.items() if name.startswith(TERM)}
        return WindowBatch(
            slots=slots.float(),
            draws=Draws(found["masked"], terms, found["hidden"]),
            visible=visible,
            drawn=found.get("drawn"),
            touching=found.get("touching"),
            learned=self._gathered(found, "learned ") if self.learns(epoch) else None,
        )

    def learns(self, epoch: int) -> bool:
        """Whether the source's network is trained in the epoch."""
        return self.source.network_purpose is not None and bool(self._weights(epoch))

    def order(self, epoch: int) -> np.ndarray:
        """The numbers of the epoch's windows, in the order in which its steps read them."""
        if self._order[0] != epoch:
            order = torch.randperm(self.windows.count, generator=self._rng("order", epoch, 0))
            self._order = (epoch, order[: self.drawn].numpy())
        return self._order[1]

    def _tensors(self, at: tuple[int, int]) -> dict[str, Tensor]:
        """What is sent for a step, on the host."""
        (epoch, step), settings, size = at, self.settings, self.settings.batch_size
        part = self.group.share(size)
        index = self.order(epoch)[step * size : (step + 1) * size][part]
        found = self._windows(index, "")
        if settings.loss_on == "visible" and not self.on_device:
            found["visible"] = torch.from_numpy(self.windows.visible(index))
        terms = [term for term, _ in acting(self._weights(epoch))]
        rng = self._rng("masked", epoch, step)
        masked = draw_masked(settings.masking, self.num_masked_slots, size, self.windows.slots, rng)
        draws = draw_slots(masked, terms, settings.graph.scope, lambda purpose: self._rng(purpose, epoch, step)).part(part)
        found |= {"masked": draws.masked, "hidden": draws.hidden}
        found |= {TERM + name: drawn for name, drawn in draws.terms.items() if drawn is not None}
        if terms:
            found |= self._for_graph(index, epoch, step)
        return found

    def _for_graph(self, index: np.ndarray, epoch: int, step: int) -> dict[str, Tensor]:
        """What the graph of a step is computed from."""
        source, graph, found = self.source, self.settings.graph, {}
        drawn = source.draw(graph, self.numbers, lambda: self._rng(source.purpose, epoch, step))
        if drawn is not None:
            found["drawn"] = drawn
        if self.truth is not None:
            found["touching"] = self.truth.touching(index)
        if self.learns(epoch):  # every process draws the same windows
            rng = self._rng(f"{source.network_purpose} windows", epoch, step)
            learned = torch.randint(self.windows.count, (source.windows(graph),), generator=rng).numpy()
            found |= self._windows(learned, "learned ")
        return found

    def _windows(self, index: np.ndarray, prefix: str) -> dict[str, Tensor]:
        """The windows with these numbers, or what a device that holds the slots gathers them by."""
        if self.on_device:
            return {f"{prefix}rows": self.windows.rows(index)}
        return {f"{prefix}slots": self.windows.tensor(index)}

    def _gathered(self, found: Mapping[str, Tensor], prefix: str) -> Tensor:
        """The windows (B,T,S,D) that `_windows` is of, in the dtype of the store."""
        return self.windows.at(found[f"{prefix}rows"]) if self.on_device else found[f"{prefix}slots"]

    def _weights(self, epoch: int) -> Mapping[str, float]:
        return self.method.weights if self.method.active(epoch) else {}

    def _rng(self, purpose: str, epoch: int, step: int) -> torch.Generator:
        return generator(self.seed, purpose, epoch, step)


def windows_of(settings: WorldModelSettings, split: Split, store: str = "float32", device: torch.device = CPU) -> Windows:
    """The split's windows, with `visible` where the data has it; held on the device where `windows.device` puts them there."""
    placed = fits(settings.windows.device, size_of(split.slots, store), device, "world_model.windows.device")
    return Windows(
        split.slots,
        settings.history_size,
        settings.num_preds,
        settings.frameskip,
        settings.windows.all_starts,
        visible=split.visible,
        store=store,
        device=device if placed else CPU,
    )
