"""Grid and page: titled grids of text with notes, which Markdown, LaTeX, HTML and the terminal all draw."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """A titled grid. `blocks` are groups of lines with a rule between them; the first `text_columns` columns hold text.

    best: (line, column) of the cells that are the best of their kind, lines counted over the blocks.
    transposed: it has a column for each point.
    """

    title: str
    header: tuple[str, ...]
    blocks: tuple[tuple[tuple[str, ...], ...], ...]
    text_columns: int = 1
    best: frozenset[tuple[int, int]] = frozenset()
    transposed: bool = False

    @property
    def lines(self) -> list[tuple[str, ...]]:
        """The lines of all blocks."""
        return [line for block in self.blocks for line in block]


@dataclass(frozen=True)
class Page:
    """What a writer draws: a title, grids, and lines below them."""

    title: str
    grids: tuple[Grid, ...]
    notes: tuple[str, ...] = ()
