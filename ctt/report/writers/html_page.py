"""HTML: one page that needs no other file."""

from __future__ import annotations

import html
import re

from ctt.report.tables.arrangement import parts
from ctt.report.tables.grid import Grid, Page

WIDTH, LETTER, PADDING = 1248, 9.6, 16.0
"""Pixels for a grid in a window of 1,280, at most of a letter, and of the blanks around a cell, in the style below."""

_STYLE = """:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --faint: #00000018 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #16181c; --faint: #ffffff22 } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 100rem;
  margin: 2rem auto; padding: 0 1rem }
.scroll { overflow: auto; max-height: 90vh; margin: .5rem 0 1.5rem }
table { border-collapse: separate; border-spacing: 0; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { padding: .25rem .5rem; text-align: right; white-space: nowrap; background: var(--paper) }
thead th { white-space: normal }
th.word, td.word { text-align: left; white-space: normal; overflow-wrap: break-word; max-width: 20rem }
thead th { position: sticky; top: 0; z-index: 1; border-top: 2px solid; border-bottom: 1px solid; vertical-align: bottom;
  cursor: pointer }
th:first-child, td:first-child { position: sticky; left: 0; border-right: 1px solid var(--faint) }
thead th:first-child { z-index: 2 }
tbody tr:last-child td { border-bottom: 1px solid }
tbody:last-child tr:last-child td { border-bottom-width: 2px }
tbody tr:hover td { background: linear-gradient(var(--faint), var(--faint)), var(--paper) }
thead th[aria-sort=ascending]::after { content: " ▲" }
thead th[aria-sort=descending]::after { content: " ▼" }
@media (max-width: 45rem) { body { font-size: 13px; margin: 1rem auto; padding: 0 .5rem }
  th, td { padding: .2rem .35rem }
  th.word, td.word { min-width: 5rem; max-width: 10rem; overflow-wrap: anywhere }
  th.word:first-child, td.word:first-child { min-width: 10rem } }
@page { size: A4 landscape; margin: 10mm }
@media print { :root { --ink: #000; --paper: #fff }
  body { font-size: 8pt; margin: 0; padding: 0 }
  .scroll { overflow: visible; max-height: none }
  table { width: 100%; break-inside: avoid }
  th, td { position: static !important; padding: .15rem .3rem } }"""

_SORT = """for (const head of document.querySelectorAll("thead th")) head.addEventListener("click", () => {
  const table = head.closest("table"), column = head.cellIndex;
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const text = row => row.cells[column].textContent.trim();
  const value = row => parseFloat(text(row).replace("\u2212", "-").replace(/[+,]/g, ""));
  for (const body of table.tBodies) [...body.rows].sort((one, two) => {
    const [a, b] = [value(one), value(two)];
    if (isNaN(a) !== isNaN(b)) return isNaN(a) ? 1 : -1;
    return (down ? -1 : 1) * (isNaN(a) ? text(one).localeCompare(text(two), undefined, {numeric: true}) : a - b);
  }).forEach(row => body.append(row));
});"""
"""A click on a column's head sorts the rows between two rules by it, numbers before dashes; a second one reverses them."""


def draw_html(page: Page) -> str:
    """A whole page with its styles, which fits a phone, a screen and A4 paper, light and dark."""
    title = html.escape(page.title)
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    parts = [f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n{view}\n<title>{title}</title>']
    parts.append(f"<style>\n{_STYLE}\n</style>\n<h1>{title}</h1>\n{html_body(page)}\n<script>\n{_SORT}\n</script>\n</html>")
    return "\n".join(parts) + "\n"


def html_body(page: Page) -> str:
    """The grids and notes of a page without its head, for use inside another page."""
    drawn = []
    for grid in (part for whole in page.grids for part in _parts(whole)):
        head = _html_line(grid, grid.header, "th")
        bodies = "\n".join(
            "<tbody>\n" + "\n".join(_html_line(grid, line, "td") for line in block) + "\n</tbody>" for block in grid.blocks
        )
        caption = f"<caption>{html.escape(grid.title)}</caption>\n" if grid.title else ""
        drawn.append(f'<div class="scroll"><table>\n{caption}<thead>\n{head}\n</thead>\n{bodies}\n</table></div>')
    items = "\n".join(f"<li>{_note(line)}</li>" for line in page.notes)
    drawn.append(f"<ul>\n{items}\n</ul>" if items else "")
    return "\n".join(drawn)


def _parts(grid: Grid) -> list[Grid]:
    """The grid, or parts of its columns below one another that fit a window of 1,280 pixels; words of text columns stay whole."""

    def width_of(column: int) -> float:
        cells = [line[column] for line in grid.lines]
        texts = [*grid.header[column].split(), *(cells if column >= grid.text_columns else " ".join(cells).split())]
        return LETTER * max(map(len, texts), default=1) + PADDING

    return parts(grid, width_of(0), WIDTH, width_of)


def _note(line: str) -> str:
    """A note, in which `commands` are code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(line))


def _html_line(grid: Grid, texts: tuple[str, ...], tag: str) -> str:
    drawn = []
    for c, text in enumerate(texts):
        style = ' class="word"' if c < grid.text_columns else ""
        drawn.append(f"<{tag}{style}>{html.escape(text)}</{tag}>")
    return "<tr>" + "".join(drawn) + "</tr>"
