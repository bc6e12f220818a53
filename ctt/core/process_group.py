"""The processes that train one model together; only one, unless a launcher started several and set CTT_JOIN.

Process 0 is the writer: it alone takes leases, builds and writes; the others take part in training only.
Sums over processes are bitwise equal on each of them, so their parameters stay equal.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

JOIN = "CTT_JOIN"
"""Environment variable of processes that are to join: srun or torchrun, whose variables then hold rank, size and address. Without
it a process is alone, whatever an allocation or a container has set."""
LOOK = 0.2  # seconds between looks for the other processes
QUIET = 10.0  # seconds of waiting after which it is reported
PATIENCE = timedelta(days=30)  # the others wait while process 0 builds other stages


class ProcessLost(ConnectionError):
    """Another process of the group has ended; its own log may give the reason."""


@contextlib.contextmanager
def _exchange() -> Iterator[None]:
    """Turns the RuntimeError of a failed exchange, whose text varies, into ProcessLost."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessLost(f"another process of this job is gone: {error}") from error


@dataclass(frozen=True)
class ProcessGroup:
    """Process `rank` of `size`, number `local` on its host; process 0 listens at address:port."""

    rank: int = 0
    size: int = 1
    local: int = 0
    address: str = "127.0.0.1"
    port: int = 29400

    @property
    def writer(self) -> bool:
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of `count` items."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def connect(self, stopping: Callable[[], bool] = lambda: False) -> bool:
        """Connects the processes; waits until all of them have started. False: `stopping` became true while it waited."""
        if self.size == 1:
            return True
        import torch
        import torch.distributed as distributed

        if distributed.is_initialized():
            return True
        store = self._meet(stopping)
        if store is None:
            return False
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            store=store,
            rank=self.rank,
            world_size=self.size,
            timeout=PATIENCE,
        )
        return True

    def _meet(self, stopping: Callable[[], bool]) -> Any:
        """torch's store at the group's address, once every process has come there; None: stopped before that. The wait is in
        Python, so that signals and Ctrl-C are heard."""
        from torch.distributed import DistNetworkError, DistStoreError
        from torch.distributed import TCPStore as Meeting  # type: ignore[attr-defined]  # documented, but not in its __all__

        began, reported = time.monotonic(), False
        store: Any = None
        while not stopping():
            try:
                if store is None:
                    short = timedelta(seconds=2)
                    store = Meeting(self.address, self.port, self.size, self.writer, short, wait_for_workers=False)
                    store.add("arrived", 1)
                if store.add("arrived", 0) >= self.size:
                    store.set_timeout(PATIENCE)
                    return store
            except (DistNetworkError, DistStoreError):
                if self.writer:
                    raise  # its port is taken
            if not reported and time.monotonic() - began > QUIET:
                reported = True
                print(f"ctt: process {self.rank} waits for {self.size} processes at {self.address}:{self.port}", flush=True)
            time.sleep(LOOK)
        return None

    def close(self) -> None:
        """Ends the connection; every process must call it."""
        if self.size == 1:
            return
        import torch.distributed as distributed

        if distributed.is_initialized():
            distributed.destroy_process_group()

    def broadcast(self, message: Any = None) -> Any:
        """Returns process 0's message (any pickleable object) on every process."""
        if self.size == 1:
            return message
        import torch.distributed as distributed

        messages = [message]
        with _exchange():
            distributed.broadcast_object_list(messages, src=0)
        return messages[0]

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Copies process 0's values into the tensors of all processes."""
        import torch.distributed as distributed

        with _exchange():
            for tensor in tensors if self.size > 1 else ():
                distributed.broadcast(tensor, src=0)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size == 1:
            return tensor
        import torch.distributed as distributed

        summed = tensor.detach().clone()
        with _exchange():
            distributed.all_reduce(summed)
        return summed

    def any(self, value: bool) -> bool:
        """Whether `value` is true in any process."""
        if self.size == 1:
            return value
        import torch

        return bool(self.total(torch.tensor(float(value))) > 0)

    def total_gradients(self, parameters: Sequence[Tensor], values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sums the parameters' `.grad`, in place, and the values over all processes, in one exchange.

        A gradient that is None on every process stays None; one that is None on some of them counts as 0 there."""
        if self.size == 1:
            return dict(values)
        import torch

        names = sorted(values)
        device = parameters[0].device
        present = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
        gradients = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten().float() for p in parameters]
        numbers = [values[name].detach().float().reshape(1).to(device) for name in names]
        summed = self.total(torch.cat([*gradients, present, *numbers]))
        *parts, present, numbers_summed = summed.split([*(p.numel() for p in parameters), len(parameters), len(names)])
        for parameter, part, count in zip(parameters, parts, present.tolist(), strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype).clone() if count else None
        return dict(zip(names, numbers_summed, strict=True))


ALONE = ProcessGroup()


def of_environment() -> ProcessGroup:
    """The group of this process, from the environment variables of what CTT_JOIN names; ALONE without it."""
    get = os.environ.get
    if get(JOIN) == "srun" and int(get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "SLURM_PROCID" in os.environ:
        return ProcessGroup(
            rank=int(get("SLURM_PROCID", "0")),
            size=int(get("SLURM_STEP_NUM_TASKS", "1")),
            local=int(get("SLURM_LOCALID", "0")),
            address=get("MASTER_ADDR") or _first_node(get("SLURM_STEP_NODELIST", "")),
            port=int(get("MASTER_PORT") or 20000 + int(get("SLURM_JOB_ID", "0")) % 10000),
        )
    if get(JOIN) == "torchrun" and int(get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ:
        return ProcessGroup(
            rank=int(get("RANK", "0")),
            size=int(get("WORLD_SIZE", "1")),
            local=int(get("LOCAL_RANK", "0")),
            address=get("MASTER_ADDR") or "127.0.0.1",
            port=int(get("MASTER_PORT") or ProcessGroup.port),
        )
    return ALONE


def _first_node(nodes: str) -> str:
    """The address of the first of SLURM's nodes: "gpu[3-5],x" → that of gpu3.

    If the name has no address, as on a private cluster: that of srun's host, the same node in a batch job."""
    prefix, bracket, rest = nodes.partition(",")[0].partition("[")
    name = prefix + (rest.partition("-")[0].rstrip("]") if bracket else "")
    try:
        return socket.gethostbyname(name)
    except OSError:
        return os.environ.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1")
