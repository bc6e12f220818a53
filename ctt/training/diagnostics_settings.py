"""The settings of the stage `diagnostics`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ctt.core.settings import Rule, Settings, setting


@dataclass
class DiagnosticsSettings(Settings):
    """What is measured of a run's slot graphs."""

    enabled: bool = setting(True, "measure every run's slot graphs and loss terms on its last state; seconds a run")
    windows: int = setting(128, "validation windows measured, the same ones for all runs", minimum=1)

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(("windows",), "diagnostics are switched off", lambda diagnostics: not diagnostics.enabled),
    )
