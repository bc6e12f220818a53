"""SlotArray: an array in a file of slots, described without reading its numbers; SlotFiles: all of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ctt.core.errors import DataError
from ctt.safeload.rebuild import Array, Span

BFLOAT16 = "bfloat16"
Tree = Any
"""A SlotArray, or a dict or list of trees; other values stand for themselves."""


@dataclass(frozen=True)
class SlotArray:
    """`dtype` is numpy's name, or BFLOAT16; `reach` (first byte, last byte + 1) within the file that is hashed, (0, 0) if the
    numbers are not in it as they are."""

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    rows: Callable[[int], SlotArray]
    reach: tuple[int, int] = (0, 0)

    @property
    def size(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * (2 if self.dtype == BFLOAT16 else np.dtype(self.dtype).itemsize)

    def row(self, index: int) -> SlotArray:
        """The array at `index` of the first axis."""
        return self.rows(index)


@dataclass
class SlotFiles:
    """The `tree` of arrays in `files`, whose bytes in this order identify them; `notes`: what was done to read them."""

    files: list[Path]
    tree: Tree
    notes: list[str] = field(default_factory=list)


def in_file(path: Path, array: Array, before: int = 0, streamed: bool = True) -> SlotArray:
    """The array at a place of a file; `before`: bytes of the files that are hashed before it."""

    def read() -> np.ndarray:
        with open(path, "rb") as file:
            return array.read(file)

    def row(index: int) -> SlotArray:
        if array.order != "C" or not isinstance(array.span, Span) or array.span.encoding != "bytes":
            raise DataError("an array of many videos must be stored video by video (C order)")
        start = array.start + index * (array.size // max(array.shape[0], 1))
        return in_file(path, dataclasses.replace(array, shape=array.shape[1:], start=start), before, streamed)

    return SlotArray(
        BFLOAT16 if array.bfloat16 else array.dtype, array.shape, read, row, _reach(array, before) if streamed else (0, 0)
    )


def _reach(array: Array, before: int) -> tuple[int, int]:
    span = array.span
    if not isinstance(span, Span):
        return 0, 0
    start = before + span.offset
    if span.encoding != "bytes":
        return start, start + span.size
    return start + array.start, start + array.start + array.size
