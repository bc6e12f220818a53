"""Durations and sizes as people read them."""

from __future__ import annotations

import pytest

from ctt.core.units import duration, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (37.5, "38 s"),
        (59.4, "59 s"),
        (59.5, "1 min"),
        (252, "4 min 12 s"),
        (300, "5 min"),
        (3599.5, "1 h"),
        (12_196, "3 h 23 min"),
        (7170, "2 h"),
        (360_000, "100 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (3e15, "3000.0 TB")])
def test_sizes(number: float, text: str) -> None:
    assert size(number) == text
