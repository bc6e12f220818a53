"""TimeLeft: how long work still takes, from its reports: nothing is shown before there is something to go by."""

from __future__ import annotations

import math
import time

SMOOTH = 30.0
"""Seconds after which what was measured counts for a third (1/e)."""
HISTORY = 10.0
"""Seconds of measurement that an estimate from earlier work counts for."""


class TimeLeft:
    """`seconds`: what the whole work took before, if that is known. The time left is then known at once, otherwise after the
    second report that shows progress."""

    def __init__(self, seconds: float | None = None) -> None:
        self._before = seconds if seconds and math.isfinite(seconds) else None
        self._done = 0.0
        self._at: float | None = None
        self._gained = self._passed = 0.0

    @property
    def rate(self) -> float | None:
        """Units per second, lately; None if nothing was measured."""
        return self._gained / self._passed if self._passed > 0 and self._gained > 0 else None

    def report(self, done: float, total: float) -> float | None:
        """Seconds to the end after `done` of `total` units (0: unknown); None if they cannot be known yet."""
        now = time.monotonic()
        if self._at is None:
            if self._before and total > 0:
                self._gained, self._passed = HISTORY * total / self._before, HISTORY
        elif done > self._done or now - self._at > SMOOTH:
            passed = max(now - self._at, 1e-6)
            fade = math.exp(-passed / SMOOTH)
            self._gained = self._gained * fade + max(done - self._done, 0.0)
            self._passed = self._passed * fade + passed
        else:
            return self._left(done, total)
        self._at, self._done = now, done
        return self._left(done, total)

    def _left(self, done: float, total: float) -> float | None:
        if total <= 0 or (rate := self.rate) is None:
            return None
        return max(total - done, 0.0) / rate
