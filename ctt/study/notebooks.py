"""Notebooks: those of analysis/, executed over a sweep of a store and rendered to one self-contained HTML file."""

from __future__ import annotations

import html
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from ctt.config import config_root
from ctt.core.errors import CttError, UsageError
from ctt.core.plain_text import plain
from ctt.store import Store
from ctt.study import record

DEFAULT = "ablation"
SECONDS = 600
ANSI = r"\x1b\[[0-9;]*m"
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }}
img {{ max-width: 100% }}
pre {{ overflow-x: auto }}
.highlight pre {{ background: #f6f6f6; padding: .5rem .7rem; font-size: 12.5px }}
.jp-OutputPrompt, .jp-InputPrompt, .prompt, .anchor-link {{ display: none }}
.jp-RenderedHTMLCommon, .jp-OutputArea-output {{ overflow-x: auto }}
</style>
{body}
</html>
"""


def notebooks() -> dict[str, Path]:
    """The notebooks that come with ctt, by name."""
    return {path.stem: path for path in sorted((config_root() / "analysis").glob("*.ipynb"))}


def render_notebook(sweep: str, store: Store, which: str | None = None) -> Path:
    """Executes a notebook over `sweep` and writes it to sweeps/NAME/report; returns the file.

    which: a name of `notebooks()`; None: the one named like the sweep, else ablation. Raises UsageError if there is no
    such notebook or Jupyter is not installed, CttError if a notebook cell fails.
    """
    record.newest(store, sweep)
    known = notebooks()
    which = which or (sweep if sweep in known else DEFAULT)
    if which not in known:
        raise UsageError(f"no notebook is called {which!r}; known are {', '.join(known)}")
    executed = execute(known[which], store.root, sweep)
    folder = store.sweeps_folder(sweep) / "report"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{which}.html"
    path.write_text(as_page(executed, f"{sweep}: {which}"), encoding="utf-8")
    return path


def execute(path: Path, store: Path, sweep: str) -> Any:
    """The notebook of a file with its outputs, executed over `sweep` of the store in a new kernel.

    Writes only to a temporary folder. Raises CttError with the error of the notebook cell that fails.
    """
    try:
        import nbformat
        from jupyter_client.manager import AsyncKernelManager
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
    except ImportError as error:
        raise UsageError(f"notebooks need Jupyter: pip install 'ctt-jepa[notebooks]' ({error})") from error
    notebook = with_parameters(nbformat.read(path, as_version=4), sweep=sweep, store=str(Path(store).resolve()))
    with tempfile.TemporaryDirectory(prefix="ctt-notebook-") as folder:
        # The kernel's connection, history and caches are in the temporary folder. It listens on sockets there, not on
        # ports, so that other users of the machine cannot connect.
        files = {"connection_file": f"{folder}/kernel.json", "ip": f"{folder}/kernel", "transport": "ipc"}
        manager = AsyncKernelManager(kernel_name="python3", **files)
        client = NotebookClient(notebook, km=manager, timeout=SECONDS, resources={"metadata": {"path": str(path.parent)}})
        environment = {
            **os.environ,
            "IPYTHONDIR": folder,
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        try:
            return client.execute(cleanup_kc=True, env=environment)  # else the kernel of a given manager keeps running
        except CellExecutionError as error:
            raise CttError(f"{path.name} failed over {sweep}: {plain(re.sub(ANSI, '', error.evalue))}") from error


def with_parameters(notebook: Any, **parameters: str) -> Any:
    """The notebook with another cell after that which is tagged `parameters`, as papermill has it, that sets them; cells tagged
    `interactive` are left out."""
    import nbformat

    def tags(cell: Any) -> list[str]:
        return list(cell.metadata.get("tags", ()))

    cells = [cell for cell in notebook.cells if "interactive" not in tags(cell)]
    place = next(i for i, cell in enumerate(cells) if "parameters" in tags(cell))
    lines = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    cells.insert(place + 1, nbformat.v4.new_code_cell(lines, metadata={"tags": ["injected-parameters"]}))
    notebook.cells = cells
    return notebook


def as_page(notebook: Any, title: str) -> str:
    """One HTML page that contains its pictures and styles, without scripts or external resources."""
    from nbconvert.exporters import HTMLExporter

    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(notebook)
    return _PAGE.format(title=html.escape(title), body=body)
