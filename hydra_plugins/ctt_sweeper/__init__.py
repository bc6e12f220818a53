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
        from ctt.app.sweep import run_sweep
        from ctt.cli import report_errors
        from ctt.config import to_config
        from ctt.execution.hydra import WaveLauncher

        if self.config is None or self.launcher is None:
            raise RuntimeError("setup was not called")
        values = self.config.copy()
        with open_dict(values):
            del values["hydra"]
        make_launcher = getattr(self.launcher, "plan_launcher", partial(WaveLauncher, self.launcher.launch))
        sys.exit(report_errors(lambda: run_sweep(to_config(values), arguments, make_launcher)))
