"""ctt's launchers for Hydra, `ctt_local` and `ctt_slurm`: the sweeper gives them all jobs of a plan."""

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


@dataclass
class CttSlurmConf:
    """Config node of the launcher; what it is told lies in the group `launch`."""

    _target_: str = "hydra_plugins.ctt_launcher.CttSlurm"


ConfigStore.instance().store(group="hydra/launcher", name="ctt_local", node=CttLocalConf, provider="ctt")
ConfigStore.instance().store(group="hydra/launcher", name="ctt_slurm", node=CttSlurmConf, provider="ctt")


class PlanLauncher(Launcher):
    """A launcher that takes a plan's frozen jobs at once, and not a list of overrides to wait for."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing of Hydra's is needed: a frozen job says all."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Refused: these launchers belong to ctt's sweeper."""
        raise NotImplementedError("ctt_local and ctt_slurm take plans; use them with hydra/sweeper=ctt")

    def queue(self, *arguments: Any) -> Any:
        """What runs frozen jobs: a `ctt.execution.launchers.MakeQueue`."""
        raise NotImplementedError


class CttLocal(PlanLauncher):
    """Jobs as processes of this host, each as soon as its needs are met, on leased devices."""

    def queue(self, *arguments: Any) -> Any:
        """What runs frozen jobs: a `ctt.execution.launchers.MakeQueue`."""
        from ctt.execution.launchers import local

        return local(*arguments)


class CttSlurm(PlanLauncher):
    """All jobs in SLURM's queue at once, as arrays that wait for what they need."""

    def queue(self, *arguments: Any) -> Any:
        """What runs frozen jobs: a `ctt.execution.launchers.MakeQueue`."""
        from ctt.execution.launchers import slurm

        return slurm(*arguments)
