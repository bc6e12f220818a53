"""Rendering: a table as Markdown, LaTeX, HTML, JSON, CSV or terminal text. Nothing of time, host, date or job."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable

from ctt.core.errors import UsageError
from ctt.report.tables import layout
from ctt.report.tables.layout import Grid, Page
from ctt.report.tables.table import Table
from ctt.report.writers import machine
from ctt.report.writers.terminal import draw_terminal

FORMATS = ("terminal", "md", "tex", "csv", "html", "json")


def render(table: Table, format: str, *, cost: bool = False, by_form: bool = False) -> str:
    """The table in one of FORMATS, ending in a newline. Raises UsageError for another format.

    cost: with what runs cost; by_form: with a grid a category for its question forms (JSON and CSV always hold them).
    """
    if format == "json":
        return machine.as_json(table, cost=cost)
    if format == "csv":
        return machine.as_csv(table, cost=cost)
    return draw(layout.page(table, cost=cost, by_form=by_form, narrow=format in ("terminal", "tex")), format)


def draw(page: Page, format: str) -> str:
    """A page as terminal text, Markdown, LaTeX or HTML, ending in a newline. Raises UsageError for another format."""
    drawers: dict[str, Callable[[Page], str]] = {
        "terminal": draw_terminal,
        "md": markdown,
        "tex": latex,
        "html": as_html,
    }
    if format not in drawers:
        raise UsageError(f"format must be one of {', '.join(FORMATS)}; got {format!r}")
    return drawers[format](page)


def terminal(table: Table, *, cost: bool = False, by_form: bool = False, width: int = 100, colour: bool = False) -> str:
    """Text for a terminal `width` columns wide; with `colour`, ANSI styles."""
    page = layout.page(table, cost=cost, by_form=by_form, narrow=True)
    return draw_terminal(page, width=width, colour=colour)


def markdown(page: Page) -> str:
    """Pipe tables with aligned columns; a block of quoted rows follows a rule as a table of its own."""
    parts = [f"# {_md(page.title)}"]
    for one in page.grids:
        parts.append(f"## {_md(one.title)}")
        parts.append("\n\n---\n\n".join(_pipes(one, block) for block in one.blocks))
    if page.notes:
        parts.append("\n".join(f"- {_md(line)}" for line in page.notes))
    return "\n\n".join(parts) + "\n"


def _pipes(one: Grid, lines: tuple[tuple[str, ...], ...]) -> str:
    grid = [[_md(text) for text in line] for line in (one.header, *lines)]
    widths = [max(3, *(_width(line[c]) for line in grid)) for c in range(len(one.header))]
    rule = ["-" * width if c < one.words else "-" * (width - 1) + ":" for c, width in enumerate(widths)]
    padded = [[_pad(text, widths[c], c < one.words) for c, text in enumerate(line)] for line in grid]
    return "\n".join("| " + " | ".join(line) + " |" for line in (padded[0], rule, *padded[1:]))


def _md(text: str) -> str:
    return re.sub(r"([|*`\\<]|\b_|_\b(?!\w))", r"\\\1", text)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int, left: bool) -> str:
    gap = " " * (width - _width(text))
    return text + gap if left else gap + text


def latex(page: Page) -> str:
    """A booktabs table per sheet; needs \\usepackage{booktabs,graphicx} and compiles with any LaTeX."""
    parts = ["% needs \\usepackage{booktabs,graphicx}"]
    for one in page.grids:
        columns = "l" * one.words + "r" * (len(one.header) - one.words)
        body = [_tex_line(one.header), "\\midrule"]
        for i, block in enumerate(one.blocks):
            body += ["\\midrule"] if i else []
            body += [_tex_line(line) for line in block]
        parts.append(
            "\n".join(
                [
                    "\\begin{table}[htbp]\n\\centering",
                    f"\\caption{{{_tex(page.title)}: {_tex(one.title)}}}",
                    f"\\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{%\n\\begin{{tabular}}{{{columns}}}",
                    "\\toprule",
                    *body,
                    "\\bottomrule\n\\end{tabular}}\n\\end{table}",
                ]
            )
        )
    if page.notes:
        items = "\n".join(f"\\item {_tex(line)}" for line in page.notes)
        parts.append(f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}")
    return "\n\n".join(parts) + "\n"


def _tex_line(estimates: tuple[str, ...]) -> str:
    return " & ".join(_tex(estimate) for estimate in estimates) + " \\\\"


_TEX = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "$<$", ">": "$>$", "±": "$\\pm$", "−": "$-$",
    "–": "--", "≥": "$\\geq$", "×": "$\\times$", "*": "$^{*}$", "…": "\\ldots{}", "→": "$\\to$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text)


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


def as_html(page: Page) -> str:
    """One page that needs nothing else."""
    title = html.escape(page.title)
    parts = [f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>']
    parts.append(f"<style>\n{_STYLE}\n</style>\n<h1>{title}</h1>\n{html_body(page)}\n</html>")
    return "\n".join(parts) + "\n"


def html_body(page: Page) -> str:
    """The grids and notes of a page without its head, to stand in another page."""
    parts = []
    for one in page.grids:
        head = _html_line(one, one.header, "th")
        bodies = "\n".join(
            "<tbody>\n" + "\n".join(_html_line(one, line, "td") for line in block) + "\n</tbody>"
            for block in one.blocks
        )
        caption = f"<caption>{html.escape(one.title)}</caption>"
        parts.append(f'<div class="scroll"><table>\n{caption}\n<thead>\n{head}\n</thead>\n{bodies}\n</table></div>')
    items = "\n".join(f"<li>{html.escape(line)}</li>" for line in page.notes)
    parts.append(f"<ul>\n{items}\n</ul>" if items else "")
    return "\n".join(parts)


def _html_line(one: Grid, estimates: tuple[str, ...], tag: str) -> str:
    drawn = []
    for c, estimate in enumerate(estimates):
        word = ' class="word"' if c < one.words else ""
        drawn.append(f"<{tag}{word}>{html.escape(estimate)}</{tag}>")
    return "<tr>" + "".join(drawn) + "</tr>"
