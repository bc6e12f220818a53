"""The slot graph that reader.reach=graph reads, a run's own at its threshold, as part of a stage's key."""

from __future__ import annotations

from typing import Any

from ctt.core.settings import canonical_form
from ctt.models.method import TRAINED
from ctt.models.model_settings import GraphSettings
from ctt.models.plugins import plugins_in


def graph_settings(graph: GraphSettings | None, threshold: float) -> dict[str, Any]:
    """What decides it: {"graph", "threshold"}, and "plugins" if its source is one's; {} where none is read."""
    if graph is None:
        return {}
    form = canonical_form(graph, frozenset(TRAINED))
    plugins = plugins_in({"world_model": {"graph": form}})
    return {"graph": form, "threshold": threshold} | ({"plugins": plugins} if plugins else {})
