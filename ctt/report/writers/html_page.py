"""HTML: one page that needs no other file."""

from __future__ import annotations

import html
import re

from ctt.report.tables.layout import Grid, Page

_STYLE = """body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; max-width: 75rem;
  margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap }
th.word, td.word { text-align: left; white-space: normal }
thead th { border-top: 2px solid; border-bottom: 1px solid; vertical-align: bottom }
tbody { border-bottom: 1px solid }
tbody:last-child { border-bottom-width: 2px }
.scroll { overflow-x: auto }"""


def draw_html(page: Page) -> str:
    """A whole page with its styles."""
    title = html.escape(page.title)
    parts = [f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>']
    parts.append(f"<style>\n{_STYLE}\n</style>\n<h1>{title}</h1>\n{html_body(page)}\n</html>")
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
