"""Merging: points that differ only in settings that have no effect are merged, with the reason."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, TypeVar

from ctt.config import Config
from ctt.core.settings import Settings, active_rules, rules_of
from ctt.data.data_format import SPLITS
from ctt.data.data_settings import DataSettings
from ctt.data.positions import reader_settings
from ctt.setting_names import differences, get_value, identity, replaced
from ctt.sweep.points import Merged, Point

S = TypeVar("S", bound=Settings)
_DEFAULTS = Config()


def without_inactive(config: Config, found: dict[str, DataSettings] | None = None) -> Config:
    """`config` with every setting that has no effect reset to its default.

    Of real data it then holds what is in the files: a run is known by that, not by where they are. `found`
    keeps what was seen there, for callers with many configs.
    """
    config = with_annotations(config)
    plain = _plain(config, "")
    if config.data.from_files:
        found = {} if found is None else found
        marker = repr(config.data)
        if marker not in found:
            seen = config.data.source.resolved(config.data)
            known = {name: getattr(seen, name) for name in ("content", *SPLITS)}
            found[marker] = dataclasses.replace(plain.data, **known)
        plain = dataclasses.replace(plain, data=found[marker])
    return plain


def with_annotations(config: Config) -> Config:
    """The config with the digest of the annotations that it names, by which it is known whether objects have positions."""
    reader = reader_settings.resolved(config.reader, config.data)
    return config if reader == config.reader else dataclasses.replace(config, reader=reader)


def _plain(settings: S, prefix: str) -> S:
    """`settings`, which a Config has at `prefix`, with what its rules silence reset; groups first, which points share."""
    changes = {}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]  # subclasses are dataclasses
        item = getattr(settings, field.name)
        if isinstance(item, Settings) and field.metadata.get("key", True):
            below = f"{prefix}{field.name}."
            plain = item.remembered(("plain", below), functools.partial(_plain, item, below))
            if plain is not item:
                changes[field.name] = plain
    if changes:
        settings = dataclasses.replace(settings, **changes)  # type: ignore[type-var]  # subclasses are dataclasses
    while silent := [
        name
        for rule in rules_of(type(settings))
        if rule.applies(settings)
        for name in rule.inactive
        if _is_set(settings, name, prefix + name)
    ]:
        settings = replaced(settings, {name: get_value(_DEFAULTS, prefix + name) for name in silent})
    return settings


def _is_set(settings: Settings, name: str, key: str) -> bool:
    """Whether `name` holds another value than its default. Counts of files stay: they are not read, but a plan shows them."""
    if isinstance(settings, DataSettings) and settings.from_files and name in SPLITS:
        return False
    return bool(functools.reduce(getattr, name.split("."), settings) != get_value(_DEFAULTS, key))


def _reset(node: Any, path: list[str], value: Any) -> Any:
    if len(path) > 1:
        value = _reset(getattr(node, path[0]), path[1:], value)
    return dataclasses.replace(node, **{path[0]: value})


class Merger:
    """Takes points as they are written, the baseline first; keeps the distinct ones."""

    def __init__(self, baseline: Config, values: dict[str, Any]) -> None:
        self.points: list[Point] = []
        self.baseline_written = False
        self._written: list[Config] = []
        self._where: dict[str, int] = {}
        self._merged: list[tuple[dict[str, Any], int, str]] = []
        self._found: dict[str, DataSettings] = {}
        plain = without_inactive(baseline, self._found)
        self._add(baseline, plain, values, _computes(plain))

    def take(self, config: Config, values: dict[str, Any], title: str = "") -> None:
        """Adds a point, with the label that its file gives it, or merges it into the one that computes the same."""
        plain = without_inactive(config, self._found)
        computes = _computes(plain)
        place = self._where.get(computes)
        reasons = [] if place is None else _reasons(config, self._written[place])
        if place is None and self._is_baseline_by_another_protocol(plain):
            place, reasons = 0, ["the ALOE that is shared is the baseline's own"]
        if place is None:
            self._add(config, plain, values, computes, title)
        elif place == 0 and not self.baseline_written:
            self.baseline_written = True  # the file writes its baseline among its points too
        else:
            self._merged.append((values, place, "; ".join(reasons) or "written twice"))

    def _is_baseline_by_another_protocol(self, plain: Config) -> bool:
        baseline = self.points[0].config
        if plain.aloe.protocol == baseline.aloe.protocol:
            return False
        return _computes(_reset(plain, ["aloe", "protocol"], baseline.aloe.protocol)) == _computes(baseline)

    def merged(self, labels: list[str]) -> tuple[Merged, ...]:
        """What was merged, where `labels` are those of `points`."""
        return tuple(Merged(values, labels[place], why) for values, place, why in self._merged)

    def _add(self, config: Config, plain: Config, values: dict[str, Any], computes: str, title: str = "") -> None:
        self._where[computes] = len(self.points)
        self._written.append(config)
        self.points.append(Point("", values, not self.points, plain, title))


def _computes(config: Config) -> str:
    """Equal for points that compute the same, whatever their seeds."""
    return identity(config, but=("seed",))


def _reasons(one: Config, other: Config) -> list[str]:
    """Why two configs compute the same: the rules that silence what differs between them."""
    differing = differences(one, other)
    reasons = [
        rule.reason
        for config in (one, other)
        for rule in active_rules(config)
        if any(key == name or key.startswith(f"{name}.") for name in rule.inactive for key in differing)
    ]
    return list(dict.fromkeys(reasons))
