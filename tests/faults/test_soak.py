"""A process that lives long does not grow: a small form of `python -m tests.faults.soak`, whose long one measures the figures."""

from __future__ import annotations

import pytest

from tests.faults.soak import apart

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("what, amount", [("runs", 20), ("follow", 1)])
def test_memory_files_threads_and_children_stay(what: str, amount: int) -> None:
    found = apart(what, amount)
    start, end = found["start"], found["end"]
    assert end["memory"] - start["memory"] < 40, found  # MiB; a run that stayed in memory with its data would take more
    assert end["given"] - start["given"] < 8, found  # what malloc has given out, which grows by 4 in 500 runs and then stays
    assert end["files"] - start["files"] <= 2 and end["threads"] - start["threads"] <= 1, found
    assert end["children"] <= start["children"], found
