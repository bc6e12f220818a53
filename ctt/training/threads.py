"""The number of threads a computation runs with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Runs the block with `count` intra-op threads. Another count can change the last bits of results."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
