"""Browser: a selector in Jupyter for the sweeps of a store, and for the pages and figures of each."""

from __future__ import annotations

from typing import Any

from ctt.report.writers.notebook_display import Shown
from ctt.study import record


def browser(study: Any) -> Any:
    """Two drop-down lists with what they select of a `Study` below; without ipywidgets a line that names what to install."""
    try:
        import ipywidgets
        from IPython.display import display
    except ImportError:
        return Shown("<p>A selector stands here where ipywidgets is installed: <code>pip install ipywidgets</code></p>")
    sweep = ipywidgets.Dropdown(options=record.names(study.store), value=study.name, description="sweep")
    content = ipywidgets.Dropdown(description="show")
    below = ipywidgets.Output()
    chosen = {study.name: study}

    def opened() -> Any:
        if sweep.value not in chosen:
            chosen[sweep.value] = type(study)(sweep.value, study.store.root)
        return chosen[sweep.value]

    def show(_: object = None) -> None:
        with below:
            below.clear_output(wait=True)
            kind, _, name = (content.value or "").partition(": ")
            if name:
                display(  # type: ignore[no-untyped-call]
                    opened().pages[name] if kind == "table" else opened().figures[name]
                )

    def list_contents(_: object = None) -> None:
        of = opened()
        content.options = [*(f"table: {name}" for name in of.pages), *(f"figure: {name}" for name in of.figures)]
        content.index = 0

    list_contents()
    show()
    sweep.observe(list_contents, "value")
    content.observe(show, "value")
    return ipywidgets.VBox([ipywidgets.HBox([sweep, content]), below])
