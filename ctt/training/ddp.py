"""Together: Lightning's DDP strategy for the processes of a World."""

from __future__ import annotations

import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy

from ctt.core.process_group import ProcessGroup


class GroupStrategy(DDPStrategy):
    """Every process is a node with one device. The model is not wrapped: DistributedDataParallel exchanges gradients
    inside a backward, and a step has many (micro-batches, views); the trainer sums them once, after the last."""

    def __init__(self, world: ProcessGroup, device: torch.device) -> None:
        super().__init__(parallel_devices=[device], cluster_environment=_Environment(world))

    def configure_ddp(self) -> None:
        """Leaves the model as it is."""


class _Environment(LightningEnvironment):
    def __init__(self, world: ProcessGroup) -> None:
        super().__init__()
        self.world = world

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self.world.address

    @property
    def main_port(self) -> int:
        return self.world.port

    def node_rank(self) -> int:
        return self.world.rank

    def local_rank(self) -> int:
        return 0
