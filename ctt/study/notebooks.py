"""Notebooks: those of analysis/, executed over a sweep of a store, and rendered to one HTML file that needs no network."""

from __future__ import annotations

import html
import os
import tempfile
from pathlib import Path
from typing import Any

from ctt.config import config_root
from ctt.core.errors import CttError, UsageError
from ctt.store import Store
from ctt.study import record

DEFAULT = "ablation"
SECONDS = 600
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

    which: a name of `notebooks()`; None: the one called like the sweep, else ablation. Raises UsageError if there is no
    such notebook or Jupyter is not installed, CttError if a cell fails.
    """
    record.newest(store, sweep)
    there = notebooks()
    which = which or (sweep if sweep in there else DEFAULT)
    if which not in there:
        raise UsageError(f"no notebook is called {which!r}; there are {', '.join(there)}")
    done = execute(there[which], store.root, sweep)
    folder = store.sweeps_folder(sweep) / "report"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{which}.html"
    path.write_text(as_page(done, f"{sweep}: {which}"), encoding="utf-8")
    return path


def execute(path: Path, store: Path, sweep: str) -> Any:
    """The notebook of a file with its outputs, run in a kernel of its own that finds `sweep` in the store.

    Nothing is written but into a folder that is gone afterwards. Raises CttError naming the cell that fails.
    """
    try:
        import nbformat
        from jupyter_client.manager import AsyncKernelManager
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
    except ImportError as error:
        raise UsageError(f"notebooks need Jupyter: pip install 'ctt[notebooks]' ({error})") from error
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(prefix="ctt-notebook-") as folder:
        # The kernel writes its connection, history and caches where all of it goes away again.
        # Sockets in that folder, no port: nobody else on the machine can talk to it.
        files = {"connection_file": f"{folder}/kernel.json", "ip": f"{folder}/kernel", "transport": "ipc"}
        manager = AsyncKernelManager(kernel_name="python3", **files)
        client = NotebookClient(
            notebook, km=manager, timeout=SECONDS, resources={"metadata": {"path": str(path.parent)}}
        )
        environment = {
            **os.environ,
            "CTT_STORE": str(Path(store).resolve()),
            "CTT_SWEEP": sweep,
            "IPYTHONDIR": folder,
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        try:
            return client.execute(cleanup_kc=True, env=environment)  # else a kernel it was given lives on
        except CellExecutionError as error:
            last = str(error).strip().splitlines()[-1]
            raise CttError(f"{path.name} failed over {sweep}: {last}") from error


def as_page(notebook: Any, title: str) -> str:
    """One HTML page with pictures and styles in it, no scripts, and nothing to fetch."""
    from nbconvert.exporters import HTMLExporter

    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(notebook)
    return _PAGE.format(title=html.escape(title), body=body)
