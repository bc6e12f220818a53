"""The precision of a GPU's matrix products in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def matrix_products(precision: str, device: str | torch.device) -> Iterator[None]:
    """Runs the block with the products of a GPU in TensorFloat-32 if `precision` is tf32; otherwise changes nothing.

    By the older of torch's two interfaces: Lightning and torch's compiler read that one, which raises where they are mixed.
    """
    if precision != "tf32" or torch.device(device).type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
