"""Where a user's CLEVRER files are: $XDG_CONFIG_HOME/ctt/clevrer.yaml (~/.config/…), which `ctt data setup` writes.

    slots_file: /data/clevrer/slots
    questions: /data/clevrer/questions
    annotation_files: /data/clevrer/annotations
    missing: skip

Runs with data=clevrer use these where neither a sweep file nor the command line names others.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ctt.core import atomic_files
from ctt.core.errors import SettingError
from ctt.core.strict_yaml import YamlError, read_yaml

if TYPE_CHECKING:
    from ctt.data.data_settings import DataSettings

KEYS = ("slots_file", "questions", "annotation_files", "missing")


def user_file() -> Path:
    """The path of the file, which need not exist."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "ctt" / "clevrer.yaml"


def with_user_files(data: DataSettings) -> DataSettings:
    """The settings with the user's files where they name none. Raises SettingError if clevrer.yaml is malformed."""
    if data.kind != "clevrer" or any(getattr(data, key) for key in KEYS[:3]):
        return data
    try:
        stat = user_file().stat()
    except OSError:
        return data
    return dataclasses.replace(data, **_read(user_file(), stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=8)
def _read(path: Path, mtime_ns: int, size: int) -> dict[str, Any]:
    try:
        content = read_yaml(path) or {}
    except (OSError, YamlError) as error:
        raise SettingError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(content, dict) or any(key not in KEYS or not isinstance(value, str) for key, value in content.items()):
        raise SettingError(f"{path} must map some of {', '.join(KEYS)} to paths; `ctt data setup` writes it anew")
    return dict(content)


def write_user_files(values: Mapping[str, str]) -> Path:
    """Writes the file and returns its path; `values` are of KEYS. Raises SettingError if it cannot be written."""
    path = user_file()
    head = "# Where CLEVRER's files are, for data=clevrer; written by `ctt data setup`.\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_files.write(path, (head + yaml.safe_dump(dict(values), sort_keys=False)).encode())
    except OSError as error:
        raise SettingError(f"{path} cannot be written ({error.strerror or error}); choose another XDG_CONFIG_HOME") from None
    return path
