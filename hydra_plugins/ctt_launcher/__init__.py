"""ctt's launchers for Hydra, `ctt_local` and `ctt_slurm`: the sweeper gives them all jobs of a plan; the work is in ctt.launch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class CttLocalConf:
    """Config node of the launcher; what it is told lies in the group `launch`."""

    _target_: str = "hydra_plugins.ctt_launcher.CttLocal"


ConfigStore.instance().store(group="hydra/launcher", name="ctt_local", node=CttLocalConf, provider="ctt")


class PlanLauncher(Launcher):
    """A launcher that takes a plan's frozen jobs at once, and not a list of overrides to wait for."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing of Hydra's is needed: a frozen job says all."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Refused: these launchers belong to ctt's sweeper."""
        raise NotImplementedError("ctt_local and ctt_slurm take plans; use them with hydra/sweeper=ctt")

    def launch_plan(self, *arguments: Any) -> None:
        """Runs frozen jobs; see `ctt.launch.run.Runner`."""
        raise NotImplementedError


class CttLocal(PlanLauncher):
    """Jobs as processes of this host, each as soon as its needs are met, on leased devices."""

    def launch_plan(self, *arguments: Any) -> None:
        """Runs frozen jobs; see `ctt.launch.run.Runner`."""
        from ctt.launch.run import run_local

        run_local(*arguments)
