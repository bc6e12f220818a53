"""Seeds: everything random in training is derived from (seed, purpose, epoch, step); no random state is carried over."""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, purpose: str, epoch: int = 0, step: int = 0) -> int:
    """A 63-bit seed that depends on the four arguments alone."""
    text = f"{seed}/{purpose}/{epoch}/{step}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, epoch: int = 0, step: int = 0) -> torch.Generator:
    """A CPU generator seeded with `derive(…)`."""
    return torch.Generator().manual_seed(derive(seed, purpose, epoch, step))
