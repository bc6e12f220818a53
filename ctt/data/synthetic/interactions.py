"""Interactions: the slots whose objects touch within a window, from the simulated ground truth."""

from __future__ import annotations

import numpy as np

from ctt.data.synthetic.truth import Truth
from ctt.data.windows import Windows


class Interactions:
    """The true interactions of a split's windows, over every video frame from a window's first to its last."""

    def __init__(self, truth: Truth, windows: Windows) -> None:
        self._truth, self._windows = truth, windows

    def among_slots(self, index: np.ndarray) -> np.ndarray:
        """For the windows with the numbers `index` (B,): bool (B,S,S), symmetric, False on the diagonal."""
        video, frame = self._windows.span(index)
        contact, slot_of = self._truth.contact[video, frame], self._truth.slot_of[video, frame]
        window, at, a, b = np.nonzero(contact)  # absent objects touch nothing
        slots = self._windows.slots
        touched = np.zeros((len(index), slots, slots), dtype=bool)
        touched[window, slot_of[window, at, a], slot_of[window, at, b]] = True
        return touched
