"""Settings: dataclass fields that carry their bounds, their help and their place in a stage's key.

A settings dataclass lists its fields with `setting(...)` and derives from `Settings`, which checks every
bound when it is made. `canonical` turns it into the JSON that is hashed into keys: fields with `key=False`
(device, threads, paths: what must not change a result) are left out, and so is a field that holds its
declared `old` value (the value that means what ctt did before the field existed), so old keys stay valid.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from ctt.errors import SettingError

_ABSENT = object()


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
    """Base of all settings dataclasses: making one checks its values; `SettingError` names field and bound."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            check_value(field.name, getattr(self, field.name), field.metadata)


def check_value(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    """Raises SettingError if `value` breaks the bounds in `metadata` (as written by `setting`)."""
    if value is None or isinstance(value, Settings):
        return
    choices = metadata.get("choices")
    if choices and value not in choices:
        raise SettingError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise SettingError(f"{name} must be a finite number, got {value}")
        for bound, broken, word in (
            ("minimum", lambda b: value < b, "at least"),
            ("above", lambda b: value <= b, "more than"),
            ("maximum", lambda b: value > b, "at most"),
        ):
            limit = metadata.get(bound)
            if limit is not None and broken(limit):
                raise SettingError(f"{name} must be {word} {limit}, got {value}")


def canonical(value: Any) -> Any:
    """JSON-ready canonical form of settings: key fields only, old-behaviour values left out, floats kept as floats."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        out = {}
        for field in dataclasses.fields(value):
            item = getattr(value, field.name)
            if not field.metadata.get("key", True):
                continue
            if field.metadata.get("old", _ABSENT) is not _ABSENT and item == field.metadata["old"]:
                continue
            out[field.name] = canonical(item)
        return out
    if isinstance(value, Mapping):
        return {str(k): canonical(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(v) for v in value]
    if isinstance(value, float) and value == 0:
        return 0.0
    return value


def canonical_json(value: Any) -> str:
    """One text per meaning: sorted keys, no blanks, ASCII, no NaN."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
