"""MLflow's server as `ctt ui` starts it, by the entry point `mlflow.app`: the pages open as training runs in every browser that
has not chosen otherwise.

MLflow shows experiments as GenAI projects until a reader chooses model training, whatever the experiments' tags are, and keeps
that choice in the browser's storage alone. So the page begins with a script that makes it where there is none; it also leaves
the assistant's panel closed, which would cover a quarter of the table of runs. Imported by MLflow's processes only.
"""

from __future__ import annotations

import json
from pathlib import Path

from flask import Response
from mlflow.server import app as pages
from mlflow.server.fastapi_app import app

__all__ = ["app"]

CHOICES = {
    "mlflow.workflowType_v1": "machine_learning",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": True,
    "mlflow.assistant.panelOpen_v1": False,
}
"""What the browser remembers at a first visit: name in its storage → value."""


def page() -> Response:
    """MLflow's page with that script."""
    file = Path(str(pages.static_folder), "index.html")
    script = "".join(
        f"localStorage.getItem({json.dumps(name)}) ?? localStorage.setItem({json.dumps(name)}, {json.dumps(json.dumps(value))});"
        for name, value in CHOICES.items()
    )
    html = file.read_text(encoding="utf-8").replace("<head>", f"<head><script>{script}</script>", 1)
    return Response(html, mimetype="text/html")


pages.view_functions["serve"] = page
