"""ctt's launcher for Hydra, `ctt`: it stands for the launcher that `launch.kind` names, which gets all jobs of a plan."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class CttLauncherConf:
    """Config node of the launcher; its settings are in the group `launch`."""

    _target_: str = "hydra_plugins.ctt_launcher.CttLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="ctt", node=CttLauncherConf, provider="ctt")


class CttLauncher(Launcher):
    """A launcher that takes all jobs of a plan at once instead of a list of overrides."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Does nothing: a job spec is complete without Hydra."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Not possible: raises NotImplementedError."""
        raise NotImplementedError("the launcher ctt runs plans; use it with hydra/sweeper=ctt")
