"""Settings of a run by their names, `world_model.depth`: which there are, their values as texts and typed, what differs."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar, cast

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ctt.config import FORMER, GROUPS, OPEN, RENAMED, Config
from ctt.core.errors import SettingError
from ctt.core.settings import Settings, canonical_form, check_value, digest_of_form
from ctt.models.plugins import unusable

S = TypeVar("S", bound=Settings)
NOT_MISSING = f"give a value; {MISSING} is OmegaConf's mark of a missing one"


@functools.cache
def known_keys() -> tuple[str, ...]:
    """Every dotted key of the Config, groups included."""

    def walk(cls: type, prefix: str) -> list[str]:
        names = []
        for field in dataclasses.fields(cls):
            names.append(prefix + field.name)
            if isinstance(field.default_factory, type) and dataclasses.is_dataclass(field.default_factory):
                names += walk(field.default_factory, f"{prefix}{field.name}.")
        return names

    return tuple(walk(Config, ""))


def check_key(key: str) -> None:
    """Raises SettingError, with the nearest known names, if `key` is no setting."""
    if key in known_keys() or key.startswith(f"{OPEN}."):
        return
    for former, present in FORMER.items():
        if key == former or key.startswith(f"{former}."):
            raise SettingError(f"{key} is now called {present}{key.removeprefix(former)}")
    if key in RENAMED:
        raise SettingError(f"{key} is the published trainer's name; here it is {RENAMED[key]}")
    if key.partition(":")[0] in known_keys():
        raise SettingError(f"{key} is not a setting; YAML wants a space after the colon, `{key.replace(':', ': ', 1)}`")
    leaves = {k.rsplit(".", 1)[-1]: k for k in reversed(known_keys())}
    near = difflib.get_close_matches(key, known_keys(), 3, 0.6)
    near += [leaves[n] for n in difflib.get_close_matches(key.rsplit(".", 1)[-1], leaves, 3, 0.75) if leaves[n] not in near]
    hint = f"did you mean {' or '.join(near[:3])}?" if near else "`ctt run --cfg job` lists all of them"
    raise SettingError(f"{key} is not a setting; {hint}{unusable()}")


@functools.cache
def _schema() -> Any:
    """A Config as OmegaConf types it: one for all, as making one takes longer than all else of a point."""
    return OmegaConf.structured(Config)


@functools.lru_cache(maxsize=65536)
def _typed(key: str, text: str) -> Any:
    """`text` (JSON) as the type that `key` has. Raises SettingError."""
    import json

    check_key(key)
    value = json.loads(text)
    node = _schema()
    try:
        OmegaConf.update(node, key, value)
        found = OmegaConf.select(node, key)
        plain = OmegaConf.to_object(found) if OmegaConf.is_config(found) else found
    except OmegaConfBaseException as error:
        reason = str(error).strip().splitlines()[0]
        raise SettingError(f"{key}: {reason}") from error
    check_value(key, plain, _metadata(key))
    return plain


def _metadata(key: str) -> Mapping[str, Any]:
    """What the field of the setting `key` carries."""
    *groups, name = key.split(".")
    node = functools.reduce(getattr, groups, Config())
    return next(field.metadata for field in dataclasses.fields(node) if field.name == name)


def with_value(config: Config, key: str, value: Any) -> Config:
    """`config` with the dotted `key` set to `value` (a plain Python value), typed and checked. Raises SettingError."""
    return with_values(config, {key: typed(key, value)})


def typed(key: str, value: Any) -> Any:
    """A plain Python value as the type of the setting `key`, within its bounds. Raises SettingError."""
    import json

    if key == OPEN or key.startswith(f"{OPEN}."):
        return value
    if isinstance(value, dict) or key in GROUPS:
        raise SettingError(f"{key} names a group of settings; give one of its keys, like {key}.NAME, a single value")
    try:
        text = json.dumps(value)
    except TypeError as error:
        raise SettingError(f"{key}: {value!r} is not a plain value") from error
    if is_missing(value):
        raise SettingError(f"{key}: {NOT_MISSING}")
    return _typed(key, text)


def is_missing(value: Any) -> bool:
    """Whether a plain value is OmegaConf's MISSING, or a list that holds it."""
    return any(map(is_missing, value)) if isinstance(value, list) else isinstance(value, str) and value == MISSING


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with typed values set together: only all of them have to agree. Raises SettingError where they do not."""
    return replaced(config, values)


def replaced(settings: S, values: Mapping[str, Any]) -> S:
    """`settings` with typed values of dotted names set together, as `with_values`."""
    return cast(S, _replace(settings, {tuple(name.split(".")): value for name, value in values.items()}))


def _replace(node: Any, values: Mapping[tuple[str, ...], Any]) -> Any:
    below: dict[str, dict[tuple[str, ...], Any]] = {}
    changes = {}
    for path, value in values.items():
        if len(path) > 1:
            below.setdefault(path[0], {})[path[1:]] = value
        else:
            changes[path[0]] = value
    if isinstance(node, dict):
        return {**node, **changes, **{name: _replace(node.get(name, {}), deeper) for name, deeper in below.items()}}
    for name, deeper in below.items():
        changes[name] = _replace(getattr(node, name), deeper)
    return dataclasses.replace(node, **changes) if changes else node


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """`config` with plain values set together (see `differences`), typed and checked. Raises SettingError."""
    return with_values(config, {key: typed(key, value) for key, value in changes.items()})


def differences(one: Settings, other: Settings, prefix: str = "") -> dict[str, Any]:
    """{dotted key: its value in `other`} of all settings that differ."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(one) if one is not other else ():  # type: ignore[arg-type]  # subclasses are dataclasses
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, Settings):
            found |= differences(mine, theirs, f"{prefix}{field.name}.")
        elif mine != theirs:
            found[prefix + field.name] = theirs
    return found


def flat_params(config: Config) -> dict[str, Any]:
    """Dotted names and values of everything that decides a result."""

    def walk(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            if not field.metadata.get("key", True):
                continue
            if dataclasses.is_dataclass(value):
                yield from walk(value, f"{prefix}{field.name}.")
            else:
                yield prefix + field.name, value

    return dict(walk(config, ""))


def get_value(config: Config, key: str) -> Any:
    """The value of the dotted `key`."""
    return functools.reduce(getattr, key.split("."), config)


def identity(config: Config, but: Collection[str] = ()) -> str:
    """What a run computes, as a digest: equal for configs that differ only in where and how they run; or in `but` too."""
    return digest_of_form({name: value for name, value in canonical_form(config).items() if name not in but})
