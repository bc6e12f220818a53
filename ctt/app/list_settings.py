"""`ctt settings [KEY]`: every setting with its type, bounds, default, meaning, what a change of it builds anew and costs."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ctt.config import Config, compose
from ctt.core.errors import UsageError
from ctt.core.settings import Settings, rules_of
from ctt.core.units import duration
from ctt.planning import auxiliaries_of, parts, target_of
from ctt.planning.costs import Costs
from ctt.setting_names import get_value

AFTER = {  # the first stage of a run that reads a group of settings → what is built anew with it
    "data": "everything: data, world model, rollout, ALOE, auxiliary stages",
    "rollout": "rollout, ALOE, position reader",
    "aloe": "ALOE",
    "diagnostics": "diagnostics",
    "reader": "position reader; imagined videos and ALOE where aloe.rollout_frames=counterfactual",
}
WORLD_MODEL = "world model, rollout, ALOE, auxiliary stages"
KINDS_AFTER = {
    "rollout": ("rollout", "vqa", "probe", "reader"),
    "aloe": ("vqa",),
    "diagnostics": ("diagnostics",),
    "reader": ("probe", "reader"),
}
"""The kinds of these stages; after `data` it is all, after the world model all but the data."""
NOTHING = "nothing: it decides where and how a run is computed, not what"
WIDE = 110
"""Columns of a terminal that holds the table of settings."""


@dataclasses.dataclass(frozen=True)
class SettingInfo:
    """One setting. `rebuilds`: what of a run is built anew when it changes; `inactive`: when it has no effect."""

    key: str
    type: str
    default: Any
    allowed: str
    help: str
    rebuilds: str
    inactive: tuple[str, ...]


def all_settings() -> list[SettingInfo]:
    """Every setting, in the order of the Config."""
    rules = [(prefix, rule) for prefix, kind in _groups(Config, "") for rule in rules_of(kind)]

    def walk(kind: type, prefix: str, excluded: bool) -> list[SettingInfo]:
        found = []
        types = get_type_hints(kind)
        for field in dataclasses.fields(kind):
            key, below = prefix + field.name, field.default_factory
            out = excluded or not field.metadata.get("key", True)
            if isinstance(below, type) and issubclass(below, Settings):
                found += walk(below, f"{key}.", out)
                continue
            rebuilds = NOTHING if out else AFTER.get(key.partition(".")[0], WORLD_MODEL)
            reasons = dict.fromkeys(r.reason for p, r in rules if any(_within(key, p + name) for name in r.inactive))
            info = (key, _type(types[field.name]), get_value(Config(), key), _allowed(field.metadata))
            found.append(SettingInfo(*info, field.metadata.get("help", ""), rebuilds, tuple(reasons)))
        return found

    return walk(Config, "", False)


@functools.cache
def cost_of(group: str) -> str:
    """The device time of what of a run is built anew when a setting of the group changes, for the defaults and the demo."""
    found = []
    for recipe in ([], ["data=mini", "world_model=mini", "aloe=mini"]):
        config = compose(recipe)
        target = target_of(config)
        stages = [s for s in parts(target, auxiliaries_of(config, target)) if _follows(s.kind, group)]
        costs = [Costs().of(stage, None) for stage in stages]
        if costs:
            found.append(f"{duration(sum(cost.seconds for cost in costs))} {costs[0].source.value}")
    return "; ".join(found)


def _follows(kind: str, group: str) -> bool:
    return group == "data" or kind in KINDS_AFTER.get(group, (kind,) if kind != "data" else ())


def with_cost(info: SettingInfo) -> dict[str, Any]:
    """The fields of a setting and `cost`: what a change of it costs a run."""
    cost = "nothing" if info.rebuilds == NOTHING else cost_of(info.key.partition(".")[0])
    return {**dataclasses.asdict(info), "cost": cost}


def _groups(kind: type, prefix: str) -> list[tuple[str, type]]:
    """The settings classes of the Config and where each lies."""
    found = [(prefix, kind)]
    for field in dataclasses.fields(kind):
        below = field.default_factory
        if isinstance(below, type) and issubclass(below, Settings):
            found += _groups(below, f"{prefix}{field.name}.")
    return found


def _within(key: str, name: str) -> bool:
    return key == name or key.startswith(f"{name}.")


def _type(kind: Any) -> str:
    text = kind.__name__ if isinstance(kind, type) else str(kind)
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "None": "null"}
    parts = (names.get(part.strip(), part.strip()) for part in text.replace("typing.", "").split("|"))
    return " or ".join(parts)


def _allowed(metadata: Mapping[str, Any]) -> str:
    if choices := metadata.get("choices"):
        return " | ".join(map(str, choices))
    signs = (("minimum", "≥"), ("above", ">"), ("maximum", "≤"))
    return ", ".join(f"{sign} {metadata[name]:g}" for name, sign in signs if metadata.get(name) is not None)


def chosen(name: str | None) -> list[SettingInfo]:
    """The settings that `name` (a key, a group, or a part of a key) means. Raises UsageError if there is none."""
    known = all_settings()
    if name is None:
        return known
    found = [s for s in known if _within(s.key, name)] or [s for s in known if name in s.key]
    if not found:
        leaves = {s.key.rpartition(".")[2]: s.key for s in known}
        near = difflib.get_close_matches(name, [s.key for s in known], 2) + [
            leaves[leaf] for leaf in difflib.get_close_matches(name.rpartition(".")[2], leaves, 2)
        ]
        hint = f"; did you mean {' or '.join(dict.fromkeys(near))}?" if near else ""
        raise UsageError(f"no setting is called {name}{hint}")
    return found


def show_settings(name: str | None, as_json: bool, console: Console) -> int:
    """Prints the settings `name` means: one in full, several as a table."""
    found = chosen(name)
    if as_json:
        print(json.dumps([with_cost(one) for one in found], indent=1))
    elif len(found) == 1:
        _print_one(found[0], console)
    else:
        _print_table(found, console)
    return 0


def _print_one(info: SettingInfo, console: Console) -> None:
    lines = [("type", info.type + (f", {info.allowed}" if info.allowed else "")), ("default", _text(info.default))]
    lines += [("meaning", info.help), ("a change builds anew", info.rebuilds)]
    lines += [("which costs a run", with_cost(info)["cost"])]
    lines += [("no effect where", reason) for reason in info.inactive]
    console.print(Text(info.key, style="bold"))
    grid = Table.grid(padding=(0, 2))
    for label, text in lines:
        grid.add_row(Text(f"  {label}", style="dim"), Text(text))
    console.print(grid)


def _print_table(found: Sequence[SettingInfo], console: Console) -> None:
    if console.width < WIDE:  # columns next to the longest key would be of single syllables
        for info in found:
            console.print(Text(f"{info.key} = {_text(info.default)}   ({info.allowed or info.type})"), soft_wrap=True)
            console.print(Padding(Text(info.help, style="dim"), (0, 0, 0, 4)))
    else:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for title in ("setting", "default", "values", "meaning"):
            table.add_column(title, overflow="fold", no_wrap=title in ("setting", "default"))
        for info in found:
            table.add_row(Text(info.key), Text(_text(info.default)), Text(info.allowed or info.type), Text(info.help))
        console.print(table)
    console.print("`ctt settings KEY` shows one in full; recipes (world_model=paper …) set several at once", highlight=False)


def _text(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, (bool, list)) else str(value)
