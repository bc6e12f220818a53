"""Whether a sweep follows the recipe that the reported numbers were made by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ctt.config import Config, config_root
from ctt.core.strict_yaml import parse_yaml
from ctt.setting_names import changed, differences, get_value
from ctt.sweep import without_inactive

NOT_COMPARED = ("eval_every", "threads", "compile", "compile_mode")
"""Settings that change how often an ALOE is looked at, or how fast it is."""
SHOWN = 4


def unlike_reported(config: Config) -> dict[str, tuple[Any, Any]]:
    """{setting: (here, in the authors' recipe)} of what has an effect and differs from world_model=reference, aloe=reference."""
    recipe = dict(_flat(_read("world_model"))) | {f"aloe.{name}": value for name, value in _flat(_read("aloe"))}
    ours, theirs = without_inactive(config), without_inactive(changed(config, recipe))
    unlike = differences(ours, theirs)
    return {key: (get_value(ours, key), value) for key, value in unlike.items() if key.rsplit(".", 1)[-1] not in NOT_COMPARED}


def follows_reported(config: Config) -> bool:
    """Whether reported numbers are of the same recipe and data."""
    return config.data.kind == "clevrer" and not unlike_reported(config)


def protocol(config: Config) -> str:
    """One sentence for a table with reported numbers."""
    differing = unlike_reported(config)
    if config.data.kind != "clevrer":
        return "protocol: other data than that of the reported numbers, which are not comparable with ours"
    if not differing:
        return "protocol: that of the reported numbers (world_model=reference aloe=reference)"
    named = [f"{key}={here} instead of {there}" for key, (here, there) in list(differing.items())[:SHOWN]]
    more = f" and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
    return f"protocol: not that of the reported numbers ({', '.join(named)}{more}); `ctt sweep reported` follows theirs"


def _read(group: str) -> Mapping[str, Any]:
    found = parse_yaml((config_root() / "conf" / group / "reference.yaml").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
