"""Tables as text: one module a format. The text holds no time, host, date or job."""

from __future__ import annotations

from collections.abc import Callable

from ctt.core.errors import UsageError
from ctt.report.tables import layout
from ctt.report.tables.arrangement import transposed
from ctt.report.tables.grid import Page
from ctt.report.tables.table import Table
from ctt.report.writers.csv_table import as_csv
from ctt.report.writers.html_page import draw_html
from ctt.report.writers.json_table import as_json
from ctt.report.writers.latex import draw_latex
from ctt.report.writers.markdown import draw_markdown
from ctt.report.writers.terminal import draw_terminal, fits

FORMATS = ("terminal", "md", "tex", "csv", "html", "json")
_DRAW: dict[str, Callable[[Page], str]] = {
    "terminal": draw_terminal,
    "md": draw_markdown,
    "tex": draw_latex,
    "html": draw_html,
}


def render(
    table: Table, format: str, *, cost: bool = False, by_form: bool = False, differences: bool = False, transpose: bool = False
) -> str:
    """The table in one of FORMATS, ending in a newline. Raises UsageError for another format.

    cost: with what runs cost; by_form: with a grid a category for its question forms (JSON and CSV always hold them).
    differences: these alone; transpose: a column for each point (neither changes JSON and CSV).
    """
    if format == "json":
        return as_json(table, cost=cost)
    if format == "csv":
        return as_csv(table, cost=cost)
    page = layout.page(table, cost=cost, by_form=by_form, narrow=format == "terminal", differences_alone=differences)
    return draw(transposed(page) if transpose else page, format)


def draw(page: Page, format: str) -> str:
    """A page as terminal text, Markdown, LaTeX or HTML, ending in a newline. Raises UsageError for another format."""
    if format not in _DRAW:
        raise UsageError(f"format must be one of {', '.join(FORMATS)}; got {format!r}")
    return _DRAW[format](page)


def terminal_text(table: Table, *, transpose: bool | None = False, width: int = 100, colour: bool = False, **chosen: bool) -> str:
    """Text for a terminal `width` columns wide; with `colour`, ANSI styles; chosen: cost, by_form, differences_alone.

    transpose: a column for each point; None: where a line for each point does not fit and it then takes fewer lines.
    """
    page = layout.page(table, narrow=True, **chosen)
    turned = transposed(page)
    text = draw_terminal(turned if transpose else page, width=width, colour=colour)
    if transpose is None and not fits(page, width):
        other = draw_terminal(turned, width=width, colour=colour)
        return min(text, other, key=lambda drawn: drawn.count("\n"))
    return text
