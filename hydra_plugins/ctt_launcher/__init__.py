"""ctt's launchers for Hydra, `ctt_local` and `ctt_slurm`: ctt's sweeper gives them all jobs of a plan."""

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
    """Config node of the launcher; its settings are in the group `launch`."""

    _target_: str = "hydra_plugins.ctt_launcher.CttLocal"


@dataclass
class CttSlurmConf:
    """Config node of the launcher; its settings are in the group `launch`."""

    _target_: str = "hydra_plugins.ctt_launcher.CttSlurm"


ConfigStore.instance().store(group="hydra/launcher", name="ctt_local", node=CttLocalConf, provider="ctt")
ConfigStore.instance().store(group="hydra/launcher", name="ctt_slurm", node=CttSlurmConf, provider="ctt")


class PlanLauncher(Launcher):
    """A launcher that takes all jobs of a plan at once instead of a list of overrides."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Does nothing: a job spec is complete without Hydra."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Not possible: raises NotImplementedError."""
        raise NotImplementedError("ctt_local and ctt_slurm run plans; use them with hydra/sweeper=ctt")

    def plan_launcher(self, *arguments: Any) -> Any:
        """Makes the launcher of a plan: a `ctt.execution.launchers.MakeLauncher`."""
        raise NotImplementedError


class CttLocal(PlanLauncher):
    """Jobs as processes of this host, each started when its needs are met, on leased devices."""

    def plan_launcher(self, *arguments: Any) -> Any:
        """Makes the launcher of a plan: a `ctt.execution.launchers.MakeLauncher`."""
        from ctt.execution.launchers import local

        return local(*arguments)


class CttSlurm(PlanLauncher):
    """All jobs in SLURM's queue at once, as arrays that depend on the jobs they need."""

    def plan_launcher(self, *arguments: Any) -> Any:
        """Makes the launcher of a plan: a `ctt.execution.launchers.MakeLauncher`."""
        from ctt.execution.launchers import slurm

        return slurm(*arguments)
