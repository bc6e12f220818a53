"""Settings: dataclass fields with bounds, help texts and rules for a stage's key.

A settings dataclass lists its fields with `setting(...)` and derives from `Settings`, which checks the bounds when an
instance is created. `canonical_form` turns it into the JSON that is hashed into keys. It leaves out fields with
`key=False` (device, threads, paths: what must not change a result); a field that holds its declared `old` value (the
behaviour before the field existed), so old keys stay valid; and settings that a rule of the class makes inactive
(as ConfigSpace's inactive parameters, arXiv 1908.06756).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import operator
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from ctt.core.errors import SettingError

T = TypeVar("T")
FROM_FILE = "the weights are those of a file"
"""Why settings of a training have no effect where a checkpoint is given."""
LARGEST = 3.4e38
"""Of a float: what is larger has no value in single precision."""
_ABSENT = object()
_KEPT = "_kept"  # cache of derived values: a sweep needs the same forms thousands of times
_NOTHING: frozenset[str] = frozenset()
_PLAIN = (str, int, bool, type(None))


@dataclasses.dataclass(frozen=True)
class Rule:
    """Where `applies(settings)`, the settings in `inactive` (dotted names relative to these) have no effect, for `reason`.

    A rule that names a setting also names those that only this one makes effective, and applies at their defaults too.
    """

    inactive: tuple[str, ...]
    reason: str
    applies: Callable[[Any], bool]


def setting(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
    key: bool = True,
    old: Any = _ABSENT,
) -> Any:
    """A dataclass field with its help, bounds (`minimum` and `maximum` inclusive, `above` exclusive) and key rules."""
    metadata = dict(help=help, minimum=minimum, above=above, maximum=maximum, choices=choices, key=key, old=old)
    if isinstance(default, type) or (callable(default) and not isinstance(default, (int, float, str))):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class Settings:
    """Base of all settings dataclasses: creating one checks its values; `SettingError` names field and bound.

    The `rules` of a class add to those of its bases. Settings become read-only once a canonical form was computed.
    """

    rules: ClassVar[tuple[Rule, ...]] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if _KEPT in self.__dict__:
            raise AttributeError(f"settings are read-only: make changed ones with dataclasses.replace(…, {name}=…)")
        super().__setattr__(name, value)

    def remembered(self, marker: Hashable, make: Callable[[], T]) -> T:
        """make(), computed once per `marker` and cached in these settings."""
        kept: dict[Hashable, Any] = self.__dict__.setdefault(_KEPT, {})
        if marker not in kept:
            kept[marker] = make()
        made: T = kept[marker]
        return made

    def __getstate__(self) -> dict[str, Any]:
        """The values alone: what was computed from them holds functions, and is computed anew where it is needed."""
        return {name: value for name, value in self.__dict__.items() if name != _KEPT}

    def __post_init__(self) -> None:
        sound = _SOUND.setdefault(type(self), {})
        for field in _fields(type(self)):
            value = getattr(self, field.name)
            if sound.get(field.name, _ABSENT) is not value:
                check_value(field.name, value, field.metadata)
                sound[field.name] = value


_FIELDS: dict[type, tuple[dataclasses.Field[Any], ...]] = {}
_RULES: dict[type, tuple[Rule, ...]] = {}
_SOUND: dict[type, dict[str, Any]] = {}
"""The values of a class that were checked last: those of a sweep's points are mostly the same objects."""


class CanonicalForm(dict[str, Any]):
    """A canonical form of settings; where it is part of another one it is not made again."""

    def without(self, *names: str) -> CanonicalForm:
        """This form less some of its settings."""
        return CanonicalForm((name, value) for name, value in self.items() if name not in names)


def _fields(kind: type) -> tuple[dataclasses.Field[Any], ...]:
    if kind not in _FIELDS:
        _FIELDS[kind] = dataclasses.fields(kind)
    return _FIELDS[kind]


def check_below(values: Any, kind: type, prefix: str = "") -> None:
    """Raises SettingError, with the dotted name, for the first of the nested `values` that violates a bound of the settings
    class `kind`. values: a mapping by name, as OmegaConf's are."""
    for field in dataclasses.fields(kind):
        below, name = field.default_factory, prefix + field.name
        if isinstance(below, type) and issubclass(below, Settings):
            check_below(values[field.name], below, f"{name}.")
        else:
            check_value(name, values[field.name], field.metadata)


def old_values(kind: type) -> dict[str, Any]:
    """The declared `old` values (the behaviour before a setting existed), nested as in the settings class `kind`."""
    out: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        below = field.default_factory
        if field.metadata.get("old", _ABSENT) is not _ABSENT:
            out[field.name] = field.metadata["old"]
        elif isinstance(below, type) and dataclasses.is_dataclass(below) and (values := old_values(below)):
            out[field.name] = values
    return out


BOUNDS = (("minimum", operator.lt, "at least"), ("above", operator.le, "more than"), ("maximum", operator.gt, "at most"))
"""Name of a bound, when a value breaks it, and the bound in words."""


def check_value(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    """Raises SettingError if `value` violates the bounds in `metadata` (written by `setting`)."""
    if value is None or isinstance(value, Settings):
        return
    choices = metadata.get("choices")
    if choices and value not in choices:
        raise SettingError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise SettingError(f"{name} must be a finite number, got {value}")
        if isinstance(value, float) and abs(value) > LARGEST:
            raise SettingError(f"{name} must be a number of single precision, at most {LARGEST:g}; got {value:g}")
        for bound, broken, word in BOUNDS:
            limit = metadata.get(bound)
            if limit is not None and broken(value, limit):
                raise SettingError(f"{name} must be {word} {limit}, got {value}")


def canonical_form(value: Any, inactive: frozenset[str] = _NOTHING) -> Any:
    """JSON-ready canonical form of settings: what decides a result, and nothing else; floats stay floats.

    inactive: dotted names below `value` that have no effect. The result is cached and shared: do not modify it.
    """
    if type(value) in _PLAIN or isinstance(value, CanonicalForm):
        return value
    if isinstance(value, Settings):
        return value.remembered(inactive, lambda: _form(value, inactive))
    if isinstance(value, float):
        return 0.0 if value == 0 else value
    if isinstance(value, (list, tuple)):
        return [canonical_form(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): canonical_form(v) for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _form(value, inactive)
    return value


def _form(value: Any, inactive: frozenset[str]) -> CanonicalForm:
    inactive = inactive.union(*(r.inactive for r in rules_of(type(value)) if r.applies(value)))
    out = CanonicalForm()
    for field in _fields(type(value)):
        item = getattr(value, field.name)
        if not field.metadata.get("key", True) or field.name in inactive:
            continue
        if field.metadata.get("old", _ABSENT) is not _ABSENT and item == field.metadata["old"]:
            continue
        below = f"{field.name}."
        deeper = frozenset(name.removeprefix(below) for name in inactive if name.startswith(below)) if inactive else inactive
        out[field.name] = canonical_form(item, deeper)
    return out


def rules_of(kind: type) -> tuple[Rule, ...]:
    """The rules of a settings class and of its bases."""
    if kind not in _RULES:
        _RULES[kind] = tuple(rule for base in reversed(kind.__mro__) for rule in vars(base).get("rules", ()))
    return _RULES[kind]


def active_rules(settings: Settings, prefix: str = "") -> tuple[Rule, ...]:
    """The rules that apply to `settings` and to nested ones, with dotted names relative to `settings`."""

    def found() -> Iterator[Rule]:
        for rule in rules_of(type(settings)):
            if rule.applies(settings):
                yield dataclasses.replace(rule, inactive=tuple(prefix + name for name in rule.inactive))
        for field in _fields(type(settings)):
            item = getattr(settings, field.name)
            if isinstance(item, Settings) and field.metadata.get("key", True):
                yield from active_rules(item, f"{prefix}{field.name}.")

    return settings.remembered(("in force", prefix), lambda: tuple(found()))


def canonical_json(value: Any) -> str:
    """JSON text of the canonical form: sorted keys, no blanks, ASCII, no NaN."""
    return _text(canonical_form(value))


def digest(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of `value`."""
    return digest_of_form(canonical_form(value))


def digest_of_form(form: Any) -> str:
    """`digest` of a result of `canonical_form`."""
    return hashlib.sha256(_text(form).encode()).hexdigest()


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _text(form: Any) -> str:
    return _ENCODER.encode(form)
