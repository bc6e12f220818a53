"""ctt: the experiment orchestrator for causal world models on CLEVRER, as a library.

    import ctt

    sweep = ctt.compile_sweep("sweeps/demo.yaml", ["seed=0,1"])   # points and runs; nothing has run
    print(ctt.plan(sweep, store="store"))                         # what would run, and what that costs
    study = ctt.run(sweep, store="store")                         # runs what is missing
    study.table                                                   # a DataFrame

Names are imported when they are first used, so that `import ctt` takes no time and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctt.app.data.data_setup import set_up_data
    from ctt.app.sweep import run
    from ctt.config import Config
    from ctt.core.errors import CttError, DataError, SettingError, StoreError, SweepError, UsageError
    from ctt.core.registry import Registry
    from ctt.core.resources import LAUNCHERS
    from ctt.data.sources.data_source import DATA_SOURCES, DataSource
    from ctt.execution.launchers import Launcher
    from ctt.execution.polling_launcher import PollingLauncher
    from ctt.models.graphs.graph_source import SOURCES as GRAPH_SOURCES
    from ctt.models.graphs.graph_source import GraphSource
    from ctt.models.losses.loss_term import LOSSES, LossTerm
    from ctt.planning import Budget
    from ctt.stages.auxiliary_stage import AuxiliaryStage
    from ctt.stages.base import Stage
    from ctt.stages.stage_registry import STAGES
    from ctt.store import Store
    from ctt.study.stored_plan import StoredPlan, plan
    from ctt.study.study import Study
    from ctt.sweep import Point, Run, Sweep, compile_sweep

__version__ = "0.2.0"

_PLACES = {
    "set_up_data": "ctt.app.data.data_setup",
    "run": "ctt.app.sweep",
    "Config": "ctt.config",
    "CttError": "ctt.core.errors",
    "DataError": "ctt.core.errors",
    "SettingError": "ctt.core.errors",
    "StoreError": "ctt.core.errors",
    "SweepError": "ctt.core.errors",
    "UsageError": "ctt.core.errors",
    "Registry": "ctt.core.registry",
    "LAUNCHERS": "ctt.core.resources",
    "DATA_SOURCES": "ctt.data.sources.data_source",
    "DataSource": "ctt.data.sources.data_source",
    "Launcher": "ctt.execution.launchers",
    "PollingLauncher": "ctt.execution.polling_launcher",
    "GRAPH_SOURCES": "ctt.models.graphs.graph_source:SOURCES",
    "GraphSource": "ctt.models.graphs.graph_source",
    "LOSSES": "ctt.models.losses.loss_term",
    "LossTerm": "ctt.models.losses.loss_term",
    "Budget": "ctt.planning",
    "AuxiliaryStage": "ctt.stages.auxiliary_stage",
    "Stage": "ctt.stages.base",
    "STAGES": "ctt.stages.stage_registry",
    "Store": "ctt.store",
    "StoredPlan": "ctt.study.stored_plan",
    "plan": "ctt.study.stored_plan",
    "Study": "ctt.study.study",
    "Point": "ctt.sweep",
    "Run": "ctt.sweep",
    "Sweep": "ctt.sweep",
    "compile_sweep": "ctt.sweep",
}
"""Where each name is: a module, or module:name where it is called otherwise there."""

__all__ = [
    "DATA_SOURCES",
    "GRAPH_SOURCES",
    "LAUNCHERS",
    "LOSSES",
    "STAGES",
    "AuxiliaryStage",
    "Budget",
    "Config",
    "CttError",
    "DataError",
    "DataSource",
    "GraphSource",
    "Launcher",
    "LossTerm",
    "Point",
    "PollingLauncher",
    "Registry",
    "Run",
    "SettingError",
    "Stage",
    "Store",
    "StoreError",
    "StoredPlan",
    "Study",
    "Sweep",
    "SweepError",
    "UsageError",
    "compile_sweep",
    "plan",
    "run",
    "set_up_data",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'ctt' has no attribute {name!r}")
    module, _, original = _PLACES[name].partition(":")
    found = getattr(importlib.import_module(module), original or name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
