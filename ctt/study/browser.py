"""Browser: a selector in Jupyter for the sweeps of a store, and for the pages and figures of each."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

from ctt.report.writers.notebook_display import Shown
from ctt.study import record

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def browser(study: Any) -> Any:
    """Two drop-down lists with what they select of a `Study` below; without ipywidgets a line that names what to install."""
    try:
        import ipywidgets
    except ImportError:
        return Shown("<p>A selector stands here where ipywidgets is installed: <code>pip install ipywidgets</code></p>")
    sweep = ipywidgets.Dropdown(options=record.names(study.store), value=study.name, description="sweep")
    content = ipywidgets.Dropdown(description="show")
    below = ipywidgets.HTML()  # no Output: what runs notebooks answers one, and may then wait for ever (nbclient #312)
    chosen = {study.name: study}

    def opened() -> Any:
        if sweep.value not in chosen:
            chosen[sweep.value] = type(study)(sweep.value, study.store.root)
        return chosen[sweep.value]

    def show(_: object = None) -> None:
        kind, _, name = (content.value or "").partition(": ")
        if name:
            below.value = opened().pages[name]._repr_html_() if kind == "table" else as_html(opened().figures[name])

    def list_contents(_: object = None) -> None:
        of = opened()
        content.options = [*(f"table: {name}" for name in of.pages), *(f"figure: {name}" for name in of.figures)]
        content.index = 0

    list_contents()
    show()
    sweep.observe(list_contents, "value")
    content.observe(show, "value")
    return ipywidgets.VBox([ipywidgets.HBox([sweep, content]), below])


def as_html(figure: Figure) -> str:
    """The figure as a picture in HTML."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", bbox_inches="tight")
    return f'<img src="data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}">'
