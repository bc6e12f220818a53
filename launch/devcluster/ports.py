"""Ports on loopback: finding free ones, and checking whether one is in use."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """A lock: one cluster of a user starts at a time, so that two can't choose the same ports."""
    with open(Path(tempfile.gettempdir()) / f"ctt-devcluster.{os.getuid()}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def free_ports(count: int) -> list[int]:
    """Free ports, below the range that the kernel uses for clients."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(10000, 30000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in ports:
                ports.append(port)
    return ports


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
