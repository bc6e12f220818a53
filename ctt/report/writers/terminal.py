"""Terminal: the table as text. What does not fit side by side stands below, with the points once more; words stay whole."""

from __future__ import annotations

import io

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from ctt.report.tables.arrangement import parts
from ctt.report.tables.grid import Grid, Page
from ctt.report.tables.layout import STAR

BETWEEN, EDGE = 2, 1
"""Blanks between two columns, and before the first."""
_SHORT = {
    "descriptive": "descrip-\ntive",
    "explanatory": "explana-\ntory",
    "predictive": "predic-\ntive",
    "counterfactual": "counter-\nfactual",
    "multiple choice": "multiple\nchoice",
    "min. detectable difference (80 % power)": "min. detect.\ndifference\n(80 % power)",
    "counterfactual per option": "counter-\nfactual,\nper option",
}


def draw_terminal(page: Page, *, width: int = 100, colour: bool = False) -> str:
    """Grids and notes as text; lines end without blanks."""
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        legacy_windows=False,
        _environ={},
    )
    for grid in page.grids:
        for part in _parts(grid, width):
            console.print(_rich(part, _word_width(grid, width)))
    for line in page.notes:
        style = "yellow" if line.startswith("warning:") else ""
        bullet = RichTable.grid(padding=(0, 1))
        bullet.add_row("·", Text(line, style=style))
        console.print(Padding(bullet, (0, 0, 0, 1)))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def fits(page: Page, width: int) -> bool:
    """Whether every line of its grids fits into `width` columns."""
    return all(len(_parts(grid, width)) == 1 for grid in page.grids)


def _word_width(grid: Grid, width: int) -> int:
    """The columns that the longest word of the first column needs, at most a quarter of the terminal."""
    words = [word for texts in (grid.header, *grid.lines) for word in texts[0].split()]
    return min(max(map(len, words), default=1), width // 4)


def _parts(grid: Grid, width: int) -> list[Grid]:
    def width_of(column: int) -> int:
        return max(len(line) for line in (*_head(grid, column).split("\n"), *(line[column] for line in grid.lines))) + BETWEEN

    return parts(grid, _word_width(grid, width) + BETWEEN + EDGE, width, width_of)


def _head(grid: Grid, column: int) -> str:
    """A column's head, over several lines where it is long; of a column for a point a line for each word."""
    name = grid.header[column]
    return name.replace(" ", "\n") if grid.transposed else _SHORT.get(name, name)


def _rich(grid: Grid, word_width: int) -> RichTable:
    table = RichTable(title=grid.title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for c, name in enumerate(grid.header):
        left = c < grid.text_columns
        header = name if left else _head(grid, c)
        table.add_column(Text(header), justify="left" if left else "right", no_wrap=not left or c > 0, overflow="fold")
        if c == 0:
            table.columns[0].min_width = word_width
    for block in grid.blocks:
        for line in block:
            table.add_row(*(Text(text, style="bold" if text.endswith(STAR) else "") for text in line))
        table.add_section()
    return table
