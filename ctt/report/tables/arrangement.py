"""Arrangement of a grid's columns: the best of each, points as columns, and parts that fit a width."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from ctt.report.tables.grid import Grid, Page

POINT = "point"
"""The head of the first column of grids that have a line for each point."""
NUMBER = re.compile(r"[+−]?\d+(?:\.\d+)?")
"""How a cell begins that holds a number."""


def best_cells(lines: Sequence[Sequence[str]], better: Sequence[str]) -> frozenset[tuple[int, int]]:
    """(line, column) of the best number of each column, as it is written; better: "higher", "lower" or "" for each column.

    None of a column in which all are alike.
    """
    best: set[tuple[int, int]] = set()
    for column, direction in enumerate(better):
        found = {i: NUMBER.match(line[column]) for i, line in enumerate(lines)} if direction else {}
        values = {i: float(match[0].replace("−", "-")) for i, match in found.items() if match}
        if len(set(values.values())) > 1:
            top = (max if direction == "higher" else min)(values.values())
            best |= {(i, column) for i, value in values.items() if value == top}
    return frozenset(best)


def transposed(page: Page) -> Page:
    """The page with a column for each point; grids whose lines are not one a point stay as they are."""
    turned = (_transposed(g) if g.text_columns == 1 and g.header[0] == POINT else g for g in page.grids)
    return Page(page.title, tuple(turned), page.notes)


def _transposed(grid: Grid) -> Grid:
    lines = grid.lines
    header = ("", *(line[0] for line in lines))
    turned = tuple((name, *(line[c] for line in lines)) for c, name in enumerate(grid.header) if c > 0)
    best = frozenset((column - 1, line + 1) for line, column in grid.best)
    return Grid(grid.title, header, (turned,), 1, best, transposed=True)


def parts(grid: Grid, least: float, width: float, width_of: Callable[[int], float]) -> list[Grid]:
    """The grid, or parts of its columns that fit `width` one by one, each with the columns of text.

    least: what the first column needs at least; width_of: what another column needs. The title is that of the first part.
    """
    text = grid.text_columns
    left = width - least - sum(map(width_of, range(1, text)))
    chosen: list[list[int]] = [[]]
    used = 0.0
    for column in range(text, len(grid.header)):
        used += width_of(column)
        if chosen[-1] and used > left:
            chosen.append([])
            used = width_of(column)
        chosen[-1].append(column)
    if len(chosen) == 1:
        return [grid]
    return [_part(grid, (*range(text), *columns), grid.title if number == 0 else "") for number, columns in enumerate(chosen)]


def _part(grid: Grid, keep: Collection[int], title: str) -> Grid:
    cut = tuple(tuple(tuple(line[c] for c in keep) for line in block) for block in grid.blocks)
    place = {column: n for n, column in enumerate(keep)}
    best = frozenset((line, place[column]) for line, column in grid.best if column in place)
    return Grid(title, tuple(grid.header[c] for c in keep), cut, grid.text_columns, best, grid.transposed)
