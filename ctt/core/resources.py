"""Resources: where jobs run and what each may use (the group `launch`). Nothing here changes a result.

Each launcher has a settings class of its own, which derives from `JobLimits`. Those of ctt's launchers have the keys `launch.*`;
what the class of another one adds has the keys `launch.settings.*`.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from ctt.core.registry import Registry
from ctt.core.settings import Settings, setting

LAUNCHERS: Registry[Any] = Registry(
    "ctt.launchers",
    "launcher",
    {
        "inproc": "ctt.execution.hydra:WaveLauncher",
        "local": "ctt.execution.local.local_launcher:LocalLauncher",
        "slurm": "ctt.execution.slurm.slurm_launcher:SlurmLauncher",
    },
)
"""The classes of launchers by the value of `launch.kind`; their protocol is `ctt.execution.launchers.Launcher`."""


@dataclasses.dataclass
class JobNeeds(Settings):
    """What every launcher can be asked for a job."""

    mem_gb: float | None = setting(None, "memory per node of a job", above=0)
    timeout_min: float | None = setting(
        None, "minutes until a job writes its checkpoint and ends; resubmitted while it makes progress", above=0
    )


@dataclasses.dataclass
class JobLimits(JobNeeds):
    """What the settings of every launcher have."""

    jobs: int | None = setting(
        1,
        "jobs running at once (slurm: per array); null: as many as there are devices (local), all that are ready (others)",
        minimum=1,
    )
    hang_min: float | None = setting(60.0, "minutes without progress after which a job is ended", above=0)
    fs_delay_s: float = setting(
        60.0,
        "seconds after which what a job has written is visible on every host (NFS caches directories for 30 to 60 s)",
        minimum=0,
    )


@dataclasses.dataclass
class Resources(JobNeeds):
    """What a job requests from SLURM; null: the cluster's default. Names and units are submitit's."""

    partition: str | None = setting(None, "SLURM's partition")
    account: str | None = setting(None, "the account that SLURM charges")
    qos: str | None = setting(None, "SLURM's quality of service")
    constraint: str | None = setting(None, "features that nodes must have")
    exclude: str | None = setting(None, "nodes that jobs must not run on")
    gres: str | None = setting(None, "generic resources, such as gpu:a100:1")
    gpus_per_node: int | None = setting(None, "GPUs per node of a job", minimum=0)
    cpus_per_task: int | None = setting(None, "cores per process of a job", minimum=1)
    nodes: int | None = setting(None, "nodes of a job (more than one: Lightning's DDP)", minimum=1)
    tasks_per_node: int | None = setting(None, "processes per node of a job", minimum=1)


@dataclasses.dataclass
class LocalSettings(JobLimits):
    """Jobs as processes of this host."""

    gpus_per_job: int = setting(1, "GPUs of a local job, if the host has any", minimum=1)
    devices: list[str] | None = setting(
        None,
        "the GPUs that local jobs may use: nvidia-smi's numbers or UUIDs; null: all in CUDA_VISIBLE_DEVICES",
    )
    leases: str = dataclasses.field(
        default_factory=lambda: os.environ.get("CTT_LEASES", "/tmp/ctt-leases"),
        metadata={"help": "folder of the device leases, shared by all sweeps on this host (environment: CTT_LEASES)"},
    )


@dataclasses.dataclass
class SlurmSettings(JobLimits, Resources):
    """Jobs of SLURM."""

    prefix: Resources = setting(Resources, "SLURM resources that differ for the jobs of shared prefixes")
    array_parallelism: int = setting(256, "maximum number of tasks of one SLURM array that run at once", minimum=1)
    signal_delay_s: int = setting(120, "seconds before its time limit at which SLURM signals a job to stop", minimum=1)
    poll_s: float = setting(5.0, "seconds between queries to SLURM (one query for all jobs)", above=0)
    setup: list[str] = setting(list, "shell lines before each SLURM job, such as `module load cuda`; one that fails ends the job")
    options: list[str] = setting(list, "further options of sbatch, such as --mail-type=END")

    def of(self, prefix: bool) -> Resources:
        """The resources of a job: of a shared prefix if `prefix`, else of a run."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(Resources)}
        if prefix:
            own |= {f.name: v for f in dataclasses.fields(Resources) if (v := getattr(self.prefix, f.name)) is not None}
        return Resources(**own)


@dataclasses.dataclass
class LaunchSettings(LocalSettings, SlurmSettings):
    """Where jobs run, how many at once, and with which resources: the group `launch`."""

    kind: str = setting("inproc", "where jobs run: inproc, local, slurm, or the name of another installed launcher")
    detach: bool = setting(False, "submit (local: start in a separate session) and return at once")
    settings: dict[str, Any] = setting(dict, "further settings of a launcher that is not part of ctt, by name")
