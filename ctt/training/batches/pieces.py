"""Pieces: parts of a batch of questions, of similar length, that are computed at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ctt.data.sending import Packed
from ctt.models.aloe.model import AloeInput


@dataclass
class Piece:
    """Some sequences of a batch: `input` for the model, the table's `rows` (B,), their `answer` (B,).

    The first `descriptive` sequences are questions without choices, the others are options.
    """

    input: AloeInput
    rows: np.ndarray
    answer: Tensor
    descriptive: int

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name, those of the input among them."""
        return {**self.input.tensors(), "answer": self.answer}


class PackedPieces:
    """Pieces of the host, sent by one transfer."""

    def __init__(self, pieces: Iterable[Piece], device: torch.device) -> None:
        self._pieces = list(pieces)
        tensors = {(n, name): t for n, piece in enumerate(self._pieces) for name, t in piece.tensors().items()}
        self._packed = Packed({f"{n} {name}": tensor for (n, name), tensor in tensors.items()}, device)

    def sent(self) -> Iterator[Piece]:
        """The pieces on the device."""
        on = self._packed.sent()
        for n, piece in enumerate(self._pieces):
            moved = {name: on[f"{n} {name}"] for name in piece.tensors()}
            answer = moved.pop("answer")
            yield Piece(piece.input.with_tensors(moved), piece.rows, answer, piece.descriptive)
