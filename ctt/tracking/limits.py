"""Limits: what MLflow stores of a name, a text or a place, and how much it takes at once."""

from __future__ import annotations

import re

KEY_LENGTH, PARAM_LENGTH, TAG_LENGTH, EXPERIMENT_LENGTH, EXPERIMENT_NOTE_LENGTH = 250, 6000, 8000, 500, 5000
METRICS_AT_ONCE, OTHERS_AT_ONCE = 1000, 100
ARTIFACTS = "mlflow-artifacts:/"  # the place of artifacts that MLflow's server serves, wherever they lie


def safe_name(name: str) -> str:
    """A name MLflow takes: letters, digits and _ - . / : and blanks, at most 250 of them, no empty or .. parts."""
    name = re.sub(r"[^\w\-. :/]", "_", name)
    name = "/".join("_" if part in ("", ".", "..") else part for part in name.split("/"))
    return name[:KEY_LENGTH].rstrip("/") or "_"


def cut(text: str, length: int) -> str:
    """`text`, shortened to `length` characters with an ellipsis if it is longer."""
    return text if len(text) <= length else text[: length - 1] + "…"
