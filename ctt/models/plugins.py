"""Plugins: the settings that loss terms, graph and data sources of other distributions add to a run, and who uses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ctt.core.errors import SettingError
from ctt.data.sources.data_source import DATA_SOURCES, data_sources
from ctt.models.graphs.graph_source import SOURCES, graph_source, graph_sources
from ctt.models.losses.loss_term import LOSSES, broken_terms, loss_terms

GRAPH = "world_model.graph"


def keys_of_plugins() -> dict[str, str]:
    """The settings that plugins add, and the part that reads them: {"ctt_x_weight": "the loss term x of name 1.0"}; for a graph
    source "world_model.graph.source=NAME" too, and for one of data "data.kind=NAME"."""
    found: dict[str, str] = {}
    for name, term in loss_terms().items():
        if plugin := LOSSES.plugin(name):
            found |= {key: f"the loss term {name} of {plugin}" for key in (term.flag, *term.options)}
    for name, source in graph_sources().items():
        if plugin := SOURCES.plugin(name):
            keys = (f"{GRAPH}.source={name}", *(f"{GRAPH}.{key}" for key in source.options))
            found |= {key: f"the graph source {name} of {plugin}" for key in keys}
    for name, data in data_sources().items():
        if plugin := DATA_SOURCES.plugin(name):
            keys = (f"data.kind={name}", *(f"data.{key}" for key in data.options))
            found |= {key: f"the {DATA_SOURCES.what} {name} of {plugin}" for key in keys}
    return found


def plugins_of(run: Any) -> dict[str, str]:
    """Those of `keys_of_plugins` that a run's settings use."""
    acting = {key for term in loss_terms().values() if getattr(run, term.flag) > 0 for key in (term.flag, *term.options)}
    source = run.world_model.graph.source
    acting |= {f"{GRAPH}.source={source}", *(f"{GRAPH}.{key}" for key in graph_source(source).options)}
    acting |= {f"data.kind={run.data.kind}", *(f"data.{key}" for key in run.data.source.options)}
    return {key: part for key, part in keys_of_plugins().items() if key in acting}


def without_unused(values: Mapping[str, Any], used: Mapping[str, str]) -> dict[str, Any]:
    """A run's nested values without the settings of plugins that are not in `used`: they are not needed to read it."""
    unused = {key for key in keys_of_plugins() if key not in used}
    model = dict(values["world_model"])
    model["graph"] = {key: value for key, value in model["graph"].items() if f"{GRAPH}.{key}" not in unused}
    data = {key: value for key, value in values["data"].items() if f"data.{key}" not in unused}
    return {key: value for key, value in {**values, "world_model": model, "data": data}.items() if key not in unused}


def check_plugins(parts: Mapping[str, str]) -> None:
    """Raises SettingError if a setting of `plugins_of` is not there: its plugin is not installed or cannot be imported."""
    for key, part in parts.items():
        if key not in keys_of_plugins():
            raise SettingError(f"{key} is a setting of {part}, which is not installed here{unusable()}")


def unusable() -> str:
    """The plugins that cannot be used, and why, as the end of a message; "" if there is none."""
    return "".join(
        f"; {reason}" for reason in (*broken_terms().values(), *SOURCES.broken().values(), *DATA_SOURCES.broken().values())
    )


def plugins_in(form: Mapping[str, Any]) -> dict[str, str]:
    """The plugins whose code a training ran, by the setting that asks for them: "distribution version code"; form: the
    canonical form of its settings, without those that have no effect."""
    found = {term.flag: LOSSES.plugin(name) for name, term in loss_terms().items() if form.get(term.flag)}
    if source := form["world_model"].get("graph", {}).get("source"):
        found["world_model.graph.source"] = SOURCES.plugin(source)
    return {key: f"{plugin} {plugin.code}" for key, plugin in found.items() if plugin is not None}
