"""The count of faults: what tests have injected, and what of it the code has withstood, one line at the end of a session.

A test takes the fixture `fault` and wraps each fault, together with what must hold after it, in `with fault("SIGKILL"):`; one that
is a single fault is marked `fault("SIGKILL")`.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

KILLED, STOPPED, FULL, SYNC, RENAME = "SIGKILL", "SIGSTOP", "disk full", "fsync fails", "rename fails"
CLOCK, LATE, FLIPPED, CUT = "clock jumps", "late file system", "byte flipped", "file cut"
Fault = Callable[[str], AbstractContextManager[None]]
Report = Generator[None, pytest.TestReport, pytest.TestReport]
PROPERTY = "fault"
ALL = os.environ.get("CTT_FAULTS") == "full"
"""Whether `make faults` runs: every step, and many moments."""


def some(full: int, few: int) -> int:
    """How many faults to try: all of `make faults`, or what `make test` has the time for."""
    return full if ALL else few


def dice(*about: object) -> random.Random:
    """Random numbers of a test: others with another CTT_FAULTS_SEED."""
    return random.Random(f"{os.environ.get('CTT_FAULTS_SEED', 0)} {about}")


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Fault:
    """Counts one fault of a kind; it has held if the block ends without an error."""

    @contextmanager
    def counted(kind: str) -> Iterator[None]:
        outcome = [kind, False]
        request.node.user_properties.append((PROPERTY, outcome))  # pytest-xdist sends it with the test's report
        yield
        outcome[1] = True

    return counted


def line(faults: list[tuple[str, bool]]) -> str:
    """ "faults: 12 tried, 11 held (SIGKILL 9 of 10, file cut 2 of 2)" """
    tried = Counter(kind for kind, _ in faults)
    held = Counter(kind for kind, well in faults if well)
    kinds = ", ".join(f"{kind} {held[kind]} of {count}" for kind, count in sorted(tried.items()))
    return f"faults: {tried.total()} tried, {held.total()} held ({kinds})"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Report:
    """A test that is marked `fault(KIND)` is one fault."""
    report = yield
    if call.when == "call" and (marker := item.get_closest_marker("fault")):
        report.user_properties.append((PROPERTY, [marker.args[0], report.passed]))
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for group in ("passed", "failed", "error") for report in terminalreporter.stats.get(group, ())]
    faults = [
        tuple(value) for report in reports if report.when == "call" for name, value in report.user_properties if name == PROPERTY
    ]
    if faults:
        terminalreporter.write_line(line(faults))
