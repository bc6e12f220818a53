"""Waiting for what other processes do."""

import time
from collections.abc import Callable
from typing import Any


def until(condition: Callable[[], Any], what: str = "it", *, seconds: float = 240, every: float = 0.01) -> Any:
    """What `condition()` returns as soon as that is true; fails after `seconds`, saying that `what` did not happen."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(every)
    return found
