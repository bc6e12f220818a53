"""ctt's sweeper for Hydra: it hands the command line and the launcher of a multirun to ctt.app.sweep."""

import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from ctt.core.errors import UsageError


@dataclass
class CttSweeperConf:
    """Config node of the sweeper."""

    _target_: str = "hydra_plugins.ctt_sweeper.CttSweeper"


ConfigStore.instance().store(group="hydra/sweeper", name="ctt", node=CttSweeperConf, provider="ctt")


class CttSweeper(Sweeper):
    """Compiles a multirun to a plan; ctt's launchers get all its jobs at once, Hydra's other launchers get waves."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps the primary config and makes the launcher."""
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the sweep; ends the process with ctt's exit code."""
        from hydra._internal.core_plugins.basic_launcher import BasicLauncher

        from ctt.app.sweep import run_sweep
        from ctt.cli import report_errors
        from ctt.config import to_config
        from ctt.execution.hydra import WaveLauncher
        from ctt.execution.launchers import MakeLauncher, of_plan
        from hydra_plugins.ctt_launcher import CttLauncher

        if self.config is None or self.launcher is None:
            raise RuntimeError("setup was not called")
        values = self.config.copy()
        with open_dict(values):
            del values["hydra"]
        kind = values.launch.kind
        if isinstance(self.launcher, CttLauncher) and kind == "inproc":
            sys.exit(report_errors(_refuse_inproc))
        ours = isinstance(self.launcher, CttLauncher) or (isinstance(self.launcher, BasicLauncher) and kind != "inproc")
        make_launcher: MakeLauncher = of_plan if ours else partial(WaveLauncher.of_plan, self.launcher.launch)
        sys.exit(report_errors(lambda: run_sweep(to_config(values), arguments, make_launcher)))


def _refuse_inproc() -> int:
    raise UsageError("launch.kind=inproc needs one of Hydra's own launchers; choose launch=inproc")
