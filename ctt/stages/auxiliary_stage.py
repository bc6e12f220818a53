"""Auxiliary stages: what is measured of a run in addition to its answers. One file declares inputs, settings, cost, label, columns.

Those of ctt are in ctt/stages/auxiliary; an installed package adds one by an entry point of the group `ctt.stages`, and the
setting `auxiliary=[NAME]` runs it. A stage's name is its kind. Its numbers are those of its metrics.json.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ctt.core.errors import SettingError, UsageError
from ctt.core.settings import Settings
from ctt.core.strict_yaml import YamlError, parse_yaml
from ctt.stages.base import Stage
from ctt.stages.columns import AuxiliaryColumns, Column
from ctt.stages.main_line import MainLine
from ctt.stages.stage_registry import STAGES, plugin_of


@dataclasses.dataclass
class NoSettings(Settings):
    """The settings of an auxiliary stage that has none."""


@dataclasses.dataclass(frozen=True)
class AuxiliaryStage(Stage):
    """A stage that is built after a run's target, and whose failure is not the run's.

    settings_class: its settings, with their defaults; columns: what it adds to tables; title: of its table, by default its label.
    answers: the file of its artifact with answers to questions (columns as in ALOE's predictions.parquet), if it has any.
    A "warning" among the facts that `build` returns is shown below tables.
    """

    settings_class: ClassVar[type[Settings]] = NoSettings
    columns: ClassVar[tuple[Column, ...]] = ()
    title: ClassVar[str] = ""
    answers: ClassVar[str] = ""

    @classmethod
    def of(cls, settings: Any, line: MainLine) -> AuxiliaryStage | None:
        """The stage of a run, given by its main line; None if it is switched off or cannot be made of the run's data."""
        raise NotImplementedError

    def references(self) -> Mapping[str, tuple[Stage, str]]:
        """Answers that need no world model, which a table shows below the runs': {label: (stage, file in its artifact)}."""
        return {}

    @classmethod
    def described(cls) -> AuxiliaryColumns:
        """What tables know of the stage."""
        return AuxiliaryColumns(cls.kind, cls.label, cls.columns, cls.title)


def stage_class(name: str) -> type[AuxiliaryStage]:
    """The auxiliary stage of that name. Raises UsageError if there is none, if its plugin cannot be imported or is no stage."""
    found = STAGES.get(name)
    if isinstance(found, type) and issubclass(found, AuxiliaryStage) and found.kind == name:
        return found
    raise UsageError(f"the auxiliary stage {name} of {STAGES.plugin(name) or 'ctt'} is not an AuxiliaryStage with kind {name!r}")


def wanted(entries: Sequence[str], own: Mapping[str, Settings]) -> tuple[tuple[type[AuxiliaryStage], Settings], ...]:
    """The auxiliary stages of a run with their settings: those of ctt that have a group of settings of their own in the Config
    (`own`: settings by name), then those that `auxiliary` names. Raises SettingError or UsageError."""
    return (*((stage_class(name), own[name]) for name in STAGES.builtin if name in own), *_named(tuple(entries), frozenset(own)))


@functools.lru_cache(maxsize=1024)
def _named(entries: tuple[str, ...], own: frozenset[str]) -> tuple[tuple[type[AuxiliaryStage], Settings], ...]:
    found: dict[str, tuple[type[AuxiliaryStage], Settings]] = {}
    for entry in entries:
        name, values = _read(entry)
        if name in own:
            raise SettingError(f"auxiliary: {name} has settings of its own; write {name}.enabled=true")
        if name in found:
            raise SettingError(f"auxiliary: {name} stands there twice")
        stage = stage_class(name)
        found[name] = (stage, _settings(name, stage.settings_class, values))
    return tuple(found.values())


def _read(entry: str) -> tuple[str, dict[str, Any]]:
    """Name and settings of "NAME" or "NAME {SETTING: VALUE, …}"."""
    match = re.fullmatch(r"\s*([\w-]+)\s*(\{.*\})?\s*", entry)
    if match is None:
        raise SettingError(f'auxiliary: {entry!r} is neither NAME nor "NAME {{SETTING: VALUE}}"')
    try:
        return match[1], parse_yaml(match[2]) if match[2] else {}
    except YamlError as error:
        raise SettingError(f"auxiliary: {entry!r} is not readable: {error}") from error


def _settings(name: str, kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """The settings of the stage `name` with `values`, typed and checked."""
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # subclasses are dataclasses
    for key in values:
        if key not in known:
            raise SettingError(f"auxiliary: {name} has no setting {key}; it has {', '.join(known) or 'none'}")
    try:
        settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), values))
    except (OmegaConfBaseException, SettingError) as error:
        raise SettingError(f"auxiliary: {name}: {str(error).strip().splitlines()[0]}") from error
    assert isinstance(settings, kind)
    return settings


def stage_plugins_of(auxiliaries: Sequence[Stage]) -> dict[str, dict[str, str]]:
    """The plugins that auxiliary stages come from, by kind, as job specs and records of sweeps hold them."""
    return {stage.kind: dataclasses.asdict(plugin) for stage in auxiliaries if (plugin := plugin_of(type(stage)))}


def check_stage_plugins(plugins: Mapping[str, Mapping[str, str]], same_code: bool = True) -> None:
    """Raises UsageError with its name if one of `stage_plugins_of` is not installed; with `same_code`, also if it has changed."""
    for name, frozen in plugins.items():
        was = f"{frozen['distribution']} {frozen['version']}"
        if name not in STAGES:
            raise UsageError(f"the auxiliary stage {name} of {was} is not installed here; install it, or start the sweep again")
        plugin = plugin_of(stage_class(name))
        if same_code and (plugin is None or dataclasses.asdict(plugin) != frozen):
            now = "the same version with other code" if str(plugin) == was else str(plugin or "ctt's own")
            changed = f"was {was} when this job was submitted and is now {now}"
            raise UsageError(f"the auxiliary stage {name} {changed}; start the sweep again")
