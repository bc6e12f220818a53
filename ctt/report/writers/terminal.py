"""Terminal: the table as text, readable at 100 columns."""

from __future__ import annotations

import io

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from ctt.report.tables.layout import STAR, Grid, Page

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
        console.print(_rich(grid))
    for line in page.notes:
        style = "yellow" if line.startswith("warning:") else ""
        bullet = RichTable.grid(padding=(0, 1))
        bullet.add_row("·", Text(line, style=style))
        console.print(Padding(bullet, (0, 0, 0, 1)))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _rich(grid: Grid) -> RichTable:
    table = RichTable(title=grid.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for c, name in enumerate(grid.header):
        left = c < grid.text_columns
        header = name if left else _SHORT.get(name, name)
        table.add_column(Text(header), justify="left" if left else "right", no_wrap=not left or c > 0, overflow="fold")
    for block in grid.blocks:
        for line in block:
            table.add_row(*(Text(text, style="bold" if text.endswith(STAR) else "") for text in line))
        table.add_section()
    return table
