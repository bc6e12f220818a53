"""A check, what it finds, and a run of all of them: each by itself, within the time that there is."""

from __future__ import annotations

import contextlib
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.gpu.material import Material


@dataclass
class Outcome:
    """What a check finds: numbers by name, and what is not as it has to be."""

    values: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def expect(self, holds: bool, what: str) -> None:
        """Records `what` as a failure unless it holds; the check goes on."""
        if not holds:
            self.failures.append(what)

    def within(self, name: str, error: float, tolerance: float) -> None:
        """Records an error and expects it to be at most the tolerance; NaN is not."""
        self.values[name] = {"error": error, "tolerance": tolerance}
        self.expect(error <= tolerance, f"{name}: error {error:.3g} is over {tolerance:g}")


@dataclass(frozen=True)
class Check:
    """`expected`: seconds that it is expected to take on an H100; it is not begun with less than that left."""

    name: str
    expected: float
    run: Callable[[Material, Outcome], None]


class TimeIsUp(Exception):
    """The time of all checks ended within this one."""


def run_checks(
    checks: Iterable[Check], material: Material, minutes: float, report: Callable[[str, dict[str, Any]], None]
) -> dict[str, dict[str, Any]]:
    """Runs the checks in order; `report` gets the name and the record of each as soon as it is known.

    A record holds status (passed, failed, skipped), seconds, values, and failures, error or reason. Main thread only: a check
    that is running when time is up is ended by SIGALRM.
    """
    until = time.monotonic() + 60 * minutes
    records = {}
    for check in checks:
        left = until - time.monotonic()
        expected = 0 if material.small else check.expected
        if left <= expected:
            reason = f"{max(left, 0):.0f} s are left of {minutes:g} min; it takes about {expected:g} s"
            record = {"status": "skipped", "reason": reason}
        else:
            record = _record(check, material, left)
        records[check.name] = record
        report(check.name, record)
    return records


def _record(check: Check, material: Material, left: float) -> dict[str, Any]:
    outcome, began, error = Outcome(), time.monotonic(), {}
    try:
        with _at_most(left), material.own_state():
            check.run(material, outcome)
    except Exception as raised:
        last = traceback.format_exc().strip().splitlines()[-12:]
        error = {"error": f"{type(raised).__name__}: {raised}", "where": last}
    failures = {"failures": outcome.failures} if outcome.failures else {}
    status = "failed" if error or failures else "passed"
    return {"status": status, "seconds": round(time.monotonic() - began, 2), **failures, **error, "values": outcome.values}


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def end(*_: Any) -> None:
        raise TimeIsUp("the time of all checks is up")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
