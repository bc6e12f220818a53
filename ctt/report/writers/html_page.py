"""HTML: one page that needs no other file."""

from __future__ import annotations

import html
import re

from ctt.report.tables.grid import Grid, Page

_STYLE = """:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --faint: #00000018 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #16181c; --faint: #ffffff22 } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 100rem;
  margin: 2rem auto; padding: 0 1rem }
.scroll { overflow: auto; max-height: 90vh; margin: .5rem 0 1.5rem }
table { border-collapse: separate; border-spacing: 0; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap; background: var(--paper) }
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
  th.word, td.word { max-width: 8.5rem; overflow-wrap: anywhere } }
@page { size: A4 landscape; margin: 10mm }
@media print { :root { --ink: #000; --paper: #fff }
  body { font-size: 8pt; margin: 0; padding: 0 }
  .scroll { overflow: visible; max-height: none }
  table { width: 100%; break-inside: avoid }
  th, td { position: static !important; white-space: normal; padding: .15rem .3rem } }"""

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
    parts = []
    for grid in page.grids:
        head = _html_line(grid, grid.header, "th")
        bodies = "\n".join(
            "<tbody>\n" + "\n".join(_html_line(grid, line, "td") for line in block) + "\n</tbody>" for block in grid.blocks
        )
        caption = f"<caption>{html.escape(grid.title)}</caption>"
        parts.append(f'<div class="scroll"><table>\n{caption}\n<thead>\n{head}\n</thead>\n{bodies}\n</table></div>')
    items = "\n".join(f"<li>{_note(line)}</li>" for line in page.notes)
    parts.append(f"<ul>\n{items}\n</ul>" if items else "")
    return "\n".join(parts)


def _note(line: str) -> str:
    """A note, in which `commands` are code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(line))


def _html_line(grid: Grid, texts: tuple[str, ...], tag: str) -> str:
    drawn = []
    for c, text in enumerate(texts):
        style = ' class="word"' if c < grid.text_columns else ""
        drawn.append(f"<{tag}{style}>{html.escape(text)}</{tag}>")
    return "<tr>" + "".join(drawn) + "</tr>"
