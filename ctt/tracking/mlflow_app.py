"""MLflow's server as `ctt ui` starts it, by the entry point `mlflow.app`: the pages open as training runs in every browser that
has not chosen otherwise, experiments that are opened from the list have our columns, and means over seeds are short.

MLflow shows experiments as GenAI projects until a reader chooses model training, whatever the experiments' tags are, and keeps
that choice, and how an experiment's runs are shown, in the browser's storage alone. So the page begins with a script that makes
them where there are none (mlflow_page.js); it also leaves the assistant's panel closed, which would cover a quarter of the table
of runs. Imported by MLflow's processes only.
"""

from __future__ import annotations

import json
from pathlib import Path

from flask import Response
from mlflow.server import app as pages
from mlflow.server.fastapi_app import app

from ctt.tracking.page import VIEW_TAG

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
    code = Path(__file__).with_name("mlflow_page.js").read_text(encoding="utf-8")
    script = f"const CHOICES = {json.dumps(CHOICES)}, VIEW = {json.dumps(VIEW_TAG)};\n{code}"
    html = file.read_text(encoding="utf-8").replace("<head>", f"<head><script>{{{script}}}</script>", 1)
    return Response(html, mimetype="text/html")


pages.view_functions["serve"] = page
