"""ctt's seam to Hydra's multirun: the sweeper hands the command line to ctt.app.sweep and the launcher to it as well."""

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
    """Compiles a multirun to the least work; ctt's launchers get all of it at once, Hydra's others get waves."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps the master config and makes the launcher."""
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the sweep; ends the process with ctt's exit code."""
        from ctt.app.sweep import run_sweep
        from ctt.cli import report_errors
        from ctt.config import to_config
        from ctt.execution.launchers import Waves

        values = self.config.copy()
        with open_dict(values):
            del values["hydra"]
        make_queue = getattr(self.launcher, "queue", partial(Waves, self.launcher.launch))
        sys.exit(report_errors(lambda: run_sweep(to_config(values), arguments, make_queue)))
