"""Checkpoints as settings: a file's weights are known by their digest, as soon as a sweep is compiled."""

from __future__ import annotations

import dataclasses
import os
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from ctt.config import Config
from ctt.core.errors import DataError
from ctt.core.settings import digest
from ctt.data.data_format import DataFormat
from ctt.data.data_settings import PROVISIONAL
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.training.training_settings import WorldModelSettings

S = TypeVar("S", WorldModelSettings, AloeSettings)


def with_checkpoints(config: Config) -> Config:
    """The config with the digests of the checkpoints that it names. Raises the errors of `resolved`."""
    if config.world_model.checkpoint is None and config.aloe.checkpoint is None:
        return config
    return dataclasses.replace(
        config, world_model=resolved(config.world_model, config.data.format), aloe=resolved(config.aloe, config.data.format)
    )


def resolved(settings: S, data_format: DataFormat) -> S:
    """Settings that name a checkpoint, with the digest of its weights; a provisional one while the file is missing.

    Raises DataError if it is no checkpoint of this kind, or does not fit the settings.
    """
    if settings.checkpoint is None:
        return settings
    path = Path(settings.checkpoint).expanduser()
    if path.is_file():
        stat = os.stat(path)
        found = _digest_of(path, stat.st_mtime_ns, stat.st_size, _Hashable(settings, data_format, repr((settings, data_format))))
    else:
        found = PROVISIONAL + digest(str(path))
    return settings if settings.tensors == found else dataclasses.replace(settings, tensors=found)


@dataclasses.dataclass(frozen=True)
class _Hashable:
    """Settings, to be remembered by what they hold."""

    settings: WorldModelSettings | AloeSettings = dataclasses.field(compare=False)
    data_format: DataFormat = dataclasses.field(compare=False)
    text: str


@lru_cache(maxsize=256)
def _digest_of(path: Path, modified: int, size: int, settings: _Hashable) -> str:
    from ctt.training.published_checkpoint import aloe_of, check_fit, read

    found = read(path)
    if isinstance(settings.settings, AloeSettings):
        _check_kind(path, found.kind, "aloe")
        aloe_of(found, settings.settings, settings.data_format)
    else:
        _check_kind(path, found.kind, "world_model")
        check_fit(found, settings.settings, settings.data_format)
    return found.digest


def _check_kind(path: Path, kind: str, wanted: str) -> None:
    if kind != wanted:
        other = (
            "an ALOE; it belongs to aloe.checkpoint" if kind == "aloe" else "a world model; it belongs to world_model.checkpoint"
        )
        raise DataError(f"{wanted}.checkpoint: {path} holds {other}")
