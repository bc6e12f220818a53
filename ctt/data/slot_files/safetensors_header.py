"""Arrays of a safetensors file by their place in it: eight bytes of length, a JSON header, the numbers.

The library safetensors maps the whole file, and reads no bfloat16 without torch; the header is a dozen lines to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ctt.core.errors import DataError
from ctt.core.plain_text import plain
from ctt.data.slot_files.slot_array import SlotArray, in_file
from ctt.safeload.rebuild import MOST_DIMENSIONS, Array, Span

LONGEST_HEADER = 100 << 20
_DTYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}


def read_safetensors(path: Path, before: int = 0, streamed: bool = True) -> dict[str, SlotArray]:
    """The arrays by name. Raises DataError if the file is malformed."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if length <= min(LONGEST_HEADER, size - 8) else b""
    try:
        header = json.loads(text)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        arrays = {name: _array(entry, 8 + length, size) for name, entry in entries.items()}
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{path} is a safetensors file with a damaged header ({plain(str(error), 100)})") from None
    return {name: in_file(path, array, before, streamed) for name, array in arrays.items()}


def _array(entry: dict[str, Any], start: int, end: int) -> Array:
    first, last = entry["data_offsets"]
    shape = entry["shape"]
    if not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"a shape {shape}")
    dtype = str(entry["dtype"])
    if dtype not in _DTYPES:
        raise ValueError(f"numbers of type {dtype}; slots are F16, BF16, F32 or F64")
    if type(first) is not int or type(last) is not int:
        raise ValueError("places that are no whole numbers")
    array = Array(_DTYPES[dtype], tuple(shape), Span(start + first, last - first), bfloat16=dtype == "BF16")
    if not 0 <= first <= last <= end - start or array.size != last - first:
        raise ValueError(f"an array of shape {shape} at bytes {first} to {last}, of {end - start}")
    return array
