"""The warnings of a point's runs, one line for those that differ in their numbers alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ctt.report.results import RunResults
from ctt.report.tables import row_text

NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w])")


def warnings_of(runs: Sequence[RunResults]) -> list[str]:
    """Each warning once, with the seeds that have it; where its numbers differ between them, from the smallest to the largest."""
    found: dict[str, list[tuple[int, str]]] = {}
    for run in runs:
        for text in run.warnings:
            found.setdefault(NUMBER.sub("#", text), []).append((run.seed, text))
    return [f"{_ranges([text for _, text in same])} ({row_text.seeds(_once(same))})" for same in found.values()]


def _once(same: Sequence[tuple[int, str]]) -> list[int]:
    return list(dict.fromkeys(seed for seed, _ in same))


def _ranges(texts: Sequence[str]) -> str:
    """The first text, its numbers that differ between the texts as ranges."""
    columns = iter(list(zip(*(NUMBER.findall(text) for text in texts), strict=True)))

    def shown(_: re.Match[str]) -> str:
        numbers = sorted(set(next(columns)), key=float)
        return numbers[0] if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"

    return NUMBER.sub(shown, texts[0])
