"""Site defaults: the launch settings of a user's cluster or machine, in $XDG_CONFIG_HOME/ctt/launch.yaml (~/.config/…).

    slurm:
      partition: gpu
      account: lab
      setup: [module load cuda]
      prefix: {timeout_min: 240}
    local:
      jobs: 4

They override the presets of launch/; the command line overrides them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctt.config import Config, with_present_names
from ctt.core.errors import SettingError
from ctt.core.resources import LAUNCHERS
from ctt.core.strict_yaml import YamlError, read_yaml
from ctt.setting_names import with_value


def site_file() -> Path:
    """The path of the file, which need not exist."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "ctt" / "launch.yaml"


def with_site(config: Config, overrides: Sequence[str]) -> Config:
    """`config` with the site's values for its kind of launcher, except those in `overrides`. Raises SettingError."""
    path = site_file()
    if not path.is_file():
        return config
    try:
        content = read_yaml(path) or {}
    except (OSError, YamlError) as error:
        raise SettingError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(content, dict) or not all(k in LAUNCHERS and isinstance(v, dict) for k, v in content.items()):
        raise SettingError(f"{path} must map `local` and `slurm`, or other launchers that are installed, to their settings")
    given = {one.partition("=")[0].lstrip("+") for one in overrides} - {"launch"}  # launch=NAME chooses a preset
    own = with_present_names(content.get(config.launch.kind, {}), "launch.")
    for key, value in _flat(own, "launch."):
        if any(key == name or key.startswith(f"{name}.") for name in given):
            continue
        try:
            config = with_value(config, key, value)
        except SettingError as error:
            raise SettingError(f"{error} ({path}: {config.launch.kind})") from error
    return config


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
