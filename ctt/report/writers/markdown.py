"""Markdown: pipe tables that are aligned as text too."""

from __future__ import annotations

import re
import unicodedata

from ctt.report.tables.grid import Grid, Page


def draw_markdown(page: Page) -> str:
    """Pipe tables with aligned columns; each further block follows a rule as a table of its own."""
    parts = [f"# {_md(page.title)}"]
    for grid in page.grids:
        parts.append(f"## {_md(grid.title)}")
        parts.append("\n\n---\n\n".join(_pipes(grid, block) for block in grid.blocks))
    if page.notes:
        parts.append("\n".join(f"- {_note(line)}" for line in page.notes))
    return "\n\n".join(parts) + "\n"


def _pipes(grid: Grid, lines: tuple[tuple[str, ...], ...]) -> str:
    texts = [[_md(text) for text in line] for line in (grid.header, *lines)]
    widths = [max(3, *(_width(line[c]) for line in texts)) for c in range(len(grid.header))]
    rule = ["-" * width if c < grid.text_columns else "-" * (width - 1) + ":" for c, width in enumerate(widths)]
    padded = [[_pad(text, widths[c], c < grid.text_columns) for c, text in enumerate(line)] for line in texts]
    return "\n".join("| " + " | ".join(line) + " |" for line in (padded[0], rule, *padded[1:]))


def _note(line: str) -> str:
    """A note, in which `commands` stay code."""
    return "".join(part if k % 2 else _md(part) for k, part in enumerate(re.split(r"(`[^`]+`)", line)))


def _md(text: str) -> str:
    return re.sub(r"([|*`\\<]|\b_|_\b(?!\w))", r"\\\1", text)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int, left: bool) -> str:
    gap = " " * (width - _width(text))
    return text + gap if left else gap + text
