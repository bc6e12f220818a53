"""Overrides: the words of a command line, in Hydra's grammar; comma lists, range() and choice() sweep."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from ctt.config import RUN_GROUPS, check_hydras_own
from ctt.core.error_text import one_line
from ctt.core.errors import SweepError
from ctt.setting_names import NOT_MISSING, is_missing
from ctt.sweep.sweep_file import check_known, shortest

MOST_VALUES = 10_000  # of one range
LONGEST = 40_000  # characters of a command line, which Hydra reads in about a second
DEEPEST = 16


@dataclasses.dataclass
class CommandLine:
    """Overrides, sorted: single values, swept axes, group choices, seeds, and what only Hydra reads."""

    single: dict[str, Any] = dataclasses.field(default_factory=dict)
    axes: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    groups: dict[str, str] = dataclasses.field(default_factory=dict)
    seeds: list[int] | None = None


def check_length(overrides: Sequence[str]) -> None:
    """Raises SweepError if Hydra's parser would need long for them, or more stack than there is."""
    if (length := sum(map(len, overrides))) > LONGEST:
        raise SweepError(
            f"{length:,} characters of settings; write what is longer than {LONGEST:,} into a sweep file (command line)"
        )
    for override in overrides:
        depth = most = 0
        for letter in override:
            depth += (letter in "[{(") - (letter in "]})")
            most = max(most, depth)
        if most > DEEPEST:
            raise SweepError(f"{override[:40]}…: nested more than {DEEPEST} deep (command line)")


def read_overrides(overrides: Sequence[str]) -> CommandLine:
    """Sorts a command line's overrides. Raises SweepError, or SettingError for an unknown name."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import (
        Glob,
        IntervalSweep,
        Override,
        RangeSweep,
    )
    from hydra.errors import HydraException

    out = CommandLine()
    check_length(overrides)
    try:
        parsed: list[Override] = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise SweepError(f"{one_line(error)} (command line)") from error
    hydras_own: list[str] = []
    for override in parsed:
        key = override.key_or_group
        line = override.input_line or key
        if key == "hydra" or key.startswith(("hydra.", "hydra/")):
            hydras_own.append(line)
            continue
        if override.is_delete() or (override.is_add() and not override.is_force_add()):
            raise SweepError(f"{line}: every setting exists already; write {key}=VALUE (command line)")
        if override.package is not None:
            raise SweepError(f"{line}: packages cannot be chosen here; write {key}=VALUE (command line)")
        check_known(key, "command line")
        try:
            swept = override.value()
        except HydraException as error:
            raise SweepError(f"{line}: {one_line(error)} (command line)") from error
        if isinstance(swept, (IntervalSweep, Glob)) or getattr(swept, "shuffle", False):
            raise SweepError(f"{line}: write the values to sweep as a list, or as range(START,STOP,STEP) (command line)")
        if isinstance(swept, RangeSweep):
            values = _range_of(swept, line)
        elif override.is_sweep_override():
            values = [_plain(v) for v in override.sweep_iterator(_as_is)]
        else:
            values = [_plain(swept)]
        if any(map(_interpolates, values)):
            raise SweepError(f"{line}: give a value, not an interpolation; a shell's variable is $NAME (command line)")
        if any(map(is_missing, values)):
            raise SweepError(f"{line}: {NOT_MISSING} (command line)")
        if key in (*RUN_GROUPS, "tracking", "launch") and not all(isinstance(value, str) for value in values):
            raise SweepError(f"{line}: {key} names one of conf/{key}/*.yaml; set single values as {key}.NAME=VALUE (command line)")
        if key == "seed":
            if not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
                raise SweepError(f"{line}: seeds are whole numbers (command line)")
            out.seeds = values
        elif key in RUN_GROUPS and not override.is_sweep_override():
            out.groups[key] = str(values[0])
        elif key in ("tracking", "launch"):
            if override.is_sweep_override():
                raise SweepError(f"{line}: {key} decides where runs go and cannot be swept (command line)")
            out.groups[key] = str(values[0])
        elif override.is_sweep_override():
            out.axes[key] = values
            out.single.pop(key, None)
        else:
            out.single[key] = values[0]
            out.axes.pop(key, None)
    if hydras_own:
        check_hydras_own(hydras_own)
    return out


def plain_value(text: str, place: str) -> Any:
    """One value as the command line writes it. Raises SweepError, naming `place`, for anything else."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    check_length([text])
    try:
        parsed = OverridesParser.create().parse_override(f"value={text}")
        value = parsed.value()
    except HydraException as error:
        raise SweepError(f"{one_line(error)} ({place})") from error
    if parsed.is_sweep_override() or _interpolates(_plain(value)):
        raise SweepError(f"give one value, no list to sweep and no interpolation ({place})")
    return _plain(value)


def _interpolates(value: Any) -> bool:
    """Whether `${` stands in a plain value, however deep."""
    if isinstance(value, dict):
        return any(map(_interpolates, value.values()))
    return any(map(_interpolates, value)) if isinstance(value, list) else isinstance(value, str) and "${" in value


def _plain(value: Any) -> Any:
    """A parsed value as plain Python has it, floats with twelve digits."""
    from hydra.core.override_parser.types import QuotedString

    if isinstance(value, float):
        return shortest(value)
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return value


def quoted(text: str) -> str:
    """A text as a value in Hydra's grammar, whatever stands in it: a backslash is one unless a quote follows."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text) + "'"


def _range_of(swept: Any, line: str) -> list[Any]:
    """The values of range(start, stop, step), the stop left out, computed in decimals. Raises SweepError for none or too many."""
    start, stop, step = (Decimal(str(part)) for part in (swept.start, swept.stop, swept.step))
    if not all(part.is_finite() for part in (start, stop, step)) or step == 0:
        raise SweepError(f"{line}: a range needs finite numbers and a step other than 0 (command line)")
    count = math.ceil((stop - start) / step)
    if not 0 < count <= MOST_VALUES:
        raise SweepError(f"{line}: {max(count, 0):,} values; a range needs 1 to {MOST_VALUES:,} (command line)")
    values = [start + step * number for number in range(count)]
    whole = all(isinstance(part, int) for part in (swept.start, swept.stop, swept.step))
    return [int(value) if whole else shortest(float(value)) for value in values]


def _as_is(value: Any) -> Any:
    return value
