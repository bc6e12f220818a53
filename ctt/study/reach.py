"""Reach: which categories of questions a point's swept settings can change, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ctt.config import Config
from ctt.core.settings import active_rules, canonical_form
from ctt.models.aloe.frame_sampling import FrameSampling
from ctt.models.method import TRAINED
from ctt.planning import Plan
from ctt.setting_names import flat_params


def unreached(config: Config, baseline: Config, screened: bool) -> tuple[str, ...]:
    """Categories a point cannot reach: with the baseline's ALOE only those that see what a world model predicts can differ."""
    if not config.data.format.categories:
        return ()
    sampling = FrameSampling(config.aloe, config.data.format)
    same = screened or not (sampling.trained_on_predicted or config.aloe.may_stop)
    if same and not _direct(config, baseline):
        return tuple(name for name in config.data.format.categories.names if name not in sampling.reached)
    return ()


def reach(plan: Plan) -> list[str]:
    """Which categories the swept settings can change, and how, one sentence for each group of points."""
    if not plan.categories:
        return []
    by_path: dict[str, list[str]] = {}
    for point in plan.sweep.points:
        if not point.baseline:
            by_path.setdefault(_path(point.config, plan.sweep.baseline.config), []).append(point.label)
    if len(by_path) < 2:
        return [f"reach: {path}" for path in by_path]
    return [f"reach of {', '.join(labels)}: {path}" for path, labels in by_path.items()]


def graphs_read(plan: Plan) -> list[str]:
    """Which slot graph the position reader reads for each point (reader.reach=graph), in a sentence where points differ in it."""
    read = {point.label: _graph(point.config) for point in plan.sweep.points if point.config.reads_graph}
    if len({tuple(graph.items()) for graph in read.values()}) < 2:
        return []
    differing = [key for key in next(iter(read.values())) if len({graph[key] for graph in read.values()}) > 1]
    by_graph: dict[str, list[str]] = {}
    for label, graph in read.items():
        by_graph.setdefault(", ".join(f"{key}={graph[key]}" for key in differing), []).append(label)
    texts = [f"{text} for {', '.join(labels)}" for text, labels in by_graph.items()]
    return [f"reader.reach=graph reads each run's own slot graph, and points differ in it: {'; '.join(texts)}"]


def _graph(config: Config) -> dict[str, Any]:
    """The settings of the slot graph that the position reader reads; None for those that have no effect on it."""
    params = {key: value for key, value in flat_params(config).items() if key.startswith("world_model.graph.")}
    silent = {name for rule in active_rules(config) for name in rule.inactive}
    silent |= {f"world_model.graph.{name}" for name in TRAINED}
    read = {
        key: None if any(key == name or key.startswith(f"{name}.") for name in silent) else value for key, value in params.items()
    }
    return {**read, "ctt_adj_threshold": config.ctt_adj_threshold}


def _path(config: Config, baseline: Config) -> str:
    aloe, names = config.aloe, config.data.format.categories.names
    every = {1: "the one category", 2: "both categories", 3: "all three categories", 4: "all four categories"}
    all_of_them = every.get(len(names), f"all {len(names)} categories")
    if direct := _direct(config, baseline):
        return f"a change of {' and of '.join(direct)} reaches {all_of_them} directly ({', '.join(sum(direct.values(), []))})"
    if aloe.rollout_frames == "all":
        those = all_of_them.removesuffix(" categories")
        return f"every category reads predicted frames, so a world model reaches {those} directly (aloe.rollout_frames=all)"
    sampling = FrameSampling(aloe, config.data.format)
    if not sampling.reading:
        return "no question is about the future, so none reads predicted frames and a world model reaches none"
    only, those = f"only {_listed(sampling.reading)} questions read predicted frames", "them"
    if sampling.imagining:
        only, those = f"{only} and only {_listed(sampling.imagining)} ones imagined videos", "these"
    only, frames = f"{only}, so a world model reaches {those} directly", f"aloe.rollout_frames={aloe.rollout_frames}"
    if aloe.protocol == "shared":
        return f"{only}, and with one ALOE for all runs nothing else ({frames}, aloe.protocol=shared)"
    if not (rest := [name for name in names if name not in sampling.reached]):
        return f"{only} ({frames})"
    others = f"{_listed(rest)} ones"
    if sampling.trained_on_predicted:
        return f"{only}, {others} through ALOE's shared weights alone ({frames})"
    blind = f"{only}, in evaluation alone, as ALOE is trained without them"
    if aloe.may_stop:
        return f"{blind}, {others} through the epoch at which ALOE stops (aloe.shares, aloe.patience)"
    return f"{blind}, and nothing else ({frames}, aloe.shares)"


def _listed(names: Sequence[str]) -> str:
    """ "a, b and c"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _direct(config: Config, baseline: Config) -> dict[str, list[str]]:
    """What a point changes besides the world model: {"ALOE itself" or "the data": settings unlike the baseline's}."""
    found = {}
    for name, text in (("aloe", "ALOE itself"), ("data", "the data")):
        mine, theirs = canonical_form(getattr(config, name)), canonical_form(getattr(baseline, name))
        differ = [key for key in {**theirs, **mine} if key != "protocol" and mine.get(key) != theirs.get(key)]
        if differ:
            found[text] = [f"{name}.{key}" for key in differ]
    return found
