"""What a benchmark is: ways to compute the same thing, timed in turn in one process, and the ratios that come of it.

A benchmark is a function in a file of this folder, decorated with `@benchmark`. It is given `toy` (sizes for a test of
correctness) and returns a Comparison. Nothing else needs to know of it: `make bench` and the tests find it.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
"""cpu counts this process's own seconds: the thing to use with one thread on a machine that does other work too."""
ROUNDS = 7
SHORTEST = 0.2
"""Seconds a measurement lasts at least; a shorter call is repeated."""


@dataclass(frozen=True)
class Ratio:
    """`name` = seconds of the way `slow` / seconds of the way `fast`; the target is a bound on it, or None."""

    name: str
    slow: str
    fast: str
    at_least: float | None = None
    at_most: float | None = None

    def held(self, value: float) -> bool:
        return value >= (self.at_least or 0) and value <= (math.inf if self.at_most is None else self.at_most)

    def target(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return "–" if self.at_most is None else f"≤ {self.at_most:g}"


@dataclass
class Comparison:
    """`check` raises unless the ways agree: it compares their results where nothing random stands between."""

    ways: dict[str, Callable[[], object]]
    ratios: list[Ratio]
    check: Callable[[], None]
    sizes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """A ratio's median over the rounds, its smallest and largest, and the median seconds of both ways."""

    ratio: Ratio
    value: float
    spread: tuple[float, float]
    seconds: dict[str, float]
    sizes: dict[str, Any]


Benchmark = Callable[[bool], Comparison]
BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(make: Benchmark) -> Benchmark:
    BENCHMARKS[make.__name__] = make
    return make


def find() -> dict[str, Benchmark]:
    """All benchmarks by name, from every module of this folder."""
    package = importlib.import_module("tests.benchmarks")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith(("test_", "__", "aloe_study")):
            importlib.import_module(f"tests.benchmarks.{module.name}")
    return BENCHMARKS


def measure(
    comparison: Comparison, only: set[str] | None = None, rounds: int = ROUNDS, clock: Clock = time.perf_counter
) -> Iterator[str | Measured]:
    """Calls every way once to warm up, then all of them in turn `rounds` times. Yields what it does, then the ratios.

    A ratio is taken within each round, so that what slows the machine for a while slows both parts of it.
    """
    ratios = [r for r in comparison.ratios if only is None or r.name in only]
    ways = {name: call for name, call in comparison.ways.items() if any(name in (r.slow, r.fast) for r in ratios)}
    repeats = {}
    for name, call in ways.items():
        yield f"warming up: {name}"
        call()
        repeats[name] = max(1, math.ceil(SHORTEST / max(_seconds(call, 1, clock), 1e-6)))
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, call in ways.items():
            yield f"round {number + 1} of {rounds}: {name}"
            taken[name].append(_seconds(call, repeats[name], clock))
    for ratio in ratios:
        each = [slow / fast for slow, fast in zip(taken[ratio.slow], taken[ratio.fast], strict=True)]
        seconds = {name: statistics.median(taken[name]) for name in (ratio.slow, ratio.fast)}
        yield Measured(ratio, statistics.median(each), (min(each), max(each)), seconds, comparison.sizes)


def _seconds(call: Callable[[], object], repeats: int, clock: Clock) -> float:
    began = clock()
    for _ in range(repeats):
        call()
    return (clock() - began) / repeats
