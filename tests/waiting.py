"""Waiting for other processes."""

import time
from collections.abc import Callable
from typing import Any


def until(condition: Callable[[], Any], what: str = "it", *, seconds: float = 240, every: float = 0.01) -> Any:
    """The first true value of `condition()`; an AssertionError that names `what` after `seconds`."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(every)
    return found
