"""Waiting that a signal ends: work that may block for long runs in a thread, while the main thread looks for signals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ctt.core.build_context import stopping
from ctt.core.errors import Interrupted

T = TypeVar("T")
LOOK = 0.1
"""Seconds between two looks for a signal."""


def interruptible(work: Callable[[], T], stopped: Callable[[], str], watch: Callable[[], None] = lambda: None) -> T:
    """The result of `work`, or its exception.

    Raises Interrupted with the text `stopped()` as soon as this process is asked to stop, and whatever `watch`, called every
    0.1 s, raises. Then the work is left to itself, in a thread that does not outlive the process.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LOOK)
    while thread.is_alive():
        if stopping():
            raise Interrupted(stopped())
        watch()
        thread.join(LOOK)
    if errors:
        raise errors[0]
    return results[0]


def pause(seconds: float, stopped: Callable[[], str]) -> None:
    """Sleeps. Raises Interrupted with the text `stopped()` as soon as this process is asked to stop."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if stopping():
            raise Interrupted(stopped())
        time.sleep(min(left, LOOK))
