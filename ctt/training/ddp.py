"""Lightning's DDP strategy for the processes of a `ProcessGroup`."""

from __future__ import annotations

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy

from ctt.core.process_group import ProcessGroup


class GroupStrategy(DDPStrategy):
    """Treats every process as a node with one device. The model is not wrapped: DistributedDataParallel would exchange
    gradients in every backward pass, and a step has many (micro-batches, views); the trainer sums them once, at the end."""

    def __init__(self, group: ProcessGroup, device: torch.device) -> None:
        super().__init__(parallel_devices=[device], cluster_environment=_Environment(group))

    def configure_ddp(self) -> None:
        """Leaves the model as it is."""


class _Environment(LightningEnvironment):
    def __init__(self, group: ProcessGroup) -> None:
        super().__init__()
        self.group = group

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self.group.address

    @property
    def main_port(self) -> int:
        return self.group.port

    def node_rank(self) -> int:
        return self.group.rank

    def local_rank(self) -> int:
        return 0
