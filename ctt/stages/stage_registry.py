"""The registry of auxiliary stages: those of ctt, one for each file in ctt/stages/auxiliary, and those of installed plugins."""

from __future__ import annotations

import dataclasses
import functools
import pkgutil
from pathlib import Path
from typing import Any

from ctt.core.registry import Plugin, Registry, code_digest

GROUP = "ctt.stages"
_FOLDER = Path(__file__).parent / "auxiliary"

STAGES: Registry[Any] = Registry(
    GROUP,
    "auxiliary stage",
    {module.name: f"ctt.stages.auxiliary.{module.name}:STAGE" for module in pkgutil.iter_modules([str(_FOLDER)])},
)


def plugin_of(stage: type) -> Plugin | None:
    """The distribution that a stage's class comes from, with the digest of the package it is in; None: from ctt.

    A package that offers an auxiliary stage may have other stages, which that one reads: they are plugins too.
    """
    package = _package(stage)
    return None if package == "ctt" else _plugin_with(package)


@functools.cache
def _plugin_with(package: str) -> Plugin | None:
    for name, part in STAGES.usable().items():
        plugin = STAGES.plugin(name)
        if plugin is not None and _package(part) == package:
            return dataclasses.replace(plugin, code=code_digest(package))
    return None


def _package(part: Any) -> str:
    return str(getattr(part, "__module__", "")).partition(".")[0]
