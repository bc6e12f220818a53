"""Notebook: tables, pages and grids as Jupyter displays them."""

from __future__ import annotations

from dataclasses import dataclass

from ctt.report.tables import layout
from ctt.report.tables.grid import Grid, Page
from ctt.report.tables.table import Table
from ctt.report.writers.html_page import html_body

_STYLE = """<style>
.ctt table { border-collapse: collapse; margin: .4rem 0 1rem; font-variant-numeric: tabular-nums }
.ctt caption { text-align: left; font-weight: 600; caption-side: top }
.ctt th, .ctt td { padding: .2rem .6rem; text-align: right; white-space: nowrap }
.ctt th.word, .ctt td.word { text-align: left; white-space: normal; min-width: 9rem }
.ctt thead th { white-space: normal; border-top: 2px solid; border-bottom: 1px solid }
.ctt tbody { border-bottom: 1px solid }
</style>"""


@dataclass(frozen=True)
class Shown:
    """HTML that Jupyter displays."""

    html: str

    def _repr_html_(self) -> str:
        return f'{_STYLE}<div class="ctt">{self.html}</div>'


def shown(content: Table | Page | Grid, *, cost: bool = False, by_form: bool = False) -> Shown:
    """A table with its notes, a page, or one grid. `cost` and `by_form` add grids to a table, see `layout.page`."""
    if isinstance(content, Table):
        content = layout.page(content, cost=cost, by_form=by_form)
    if isinstance(content, Grid):
        content = Page(content.title, (content,))
    return Shown(html_body(content))
