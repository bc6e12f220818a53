"""Interactions: which slots hold objects that touch within a window, as the simulation knows it."""

from __future__ import annotations

import numpy as np

from ctt.data.synthetic.slot_encoder import SLOTS
from ctt.data.synthetic.truth import Truth
from ctt.data.windows import Windows


class Interactions:
    """The true interactions of a split's windows; every video frame from a window's first to its last one counts."""

    def __init__(self, truth: Truth, windows: Windows) -> None:
        self._truth, self._windows = truth, windows

    def among_slots(self, index: np.ndarray) -> np.ndarray:
        """Of the windows with the numbers `index` (B,): bool (B,S,S), symmetric, no slot with itself."""
        video, frame = self._windows.span(index)
        contact, slot_of = self._truth.contact[video, frame], self._truth.slot_of[video, frame]
        window, at, a, b = np.nonzero(contact)  # absent objects touch nothing
        touched = np.zeros((len(index), SLOTS, SLOTS), dtype=bool)
        touched[window, slot_of[window, at, a], slot_of[window, at, b]] = True
        return touched
