"""Resources: where jobs run and what each may use (the group `launch`). Nothing here changes a result."""

from __future__ import annotations

import dataclasses
import os

from ctt.core.settings import Settings, setting


@dataclasses.dataclass
class Resources(Settings):
    """What SLURM gives a job; null: what the cluster gives by itself. Names and units are submitit's."""

    partition: str | None = setting(None, "SLURM's partition")
    account: str | None = setting(None, "whom SLURM charges")
    qos: str | None = setting(None, "SLURM's quality of service")
    constraint: str | None = setting(None, "features that nodes must have")
    exclude: str | None = setting(None, "nodes to stay away from")
    gres: str | None = setting(None, "generic resources, like gpu:a100:1")
    gpus_per_node: int | None = setting(None, "GPUs of a job on each of its nodes", minimum=0)
    cpus_per_task: int | None = setting(None, "cores of a job's process", minimum=1)
    mem_gb: float | None = setting(None, "memory of a job on each of its nodes", above=0)
    nodes: int | None = setting(None, "nodes of a job (more than one: Lightning's DDP)", minimum=1)
    tasks_per_node: int | None = setting(None, "processes of a job on each of its nodes", minimum=1)
    timeout_min: float | None = setting(
        None, "minutes after which a job writes its checkpoint and ends; it continues while it gets on", above=0
    )


@dataclasses.dataclass
class LaunchSettings(Resources):
    """Where jobs run, how many at once, and what they have."""

    kind: str = setting("inproc", "where jobs run: its YAML lies in launch/", choices=("inproc", "local", "slurm"))
    jobs: int | None = setting(
        1,
        "jobs alive at once (slurm: of each array); null: as many as there are devices (local), all that are ready (slurm)",
        minimum=1,
    )
    gpus_per_job: int = setting(1, "GPUs of a local job, where there are any", minimum=1)
    devices: list[str] | None = setting(
        None,
        "the GPUs that local jobs may lease: nvidia-smi's numbers or UUIDs; null: all that CUDA_VISIBLE_DEVICES shows",
    )
    leases: str = dataclasses.field(
        default_factory=lambda: os.environ.get("CTT_LEASES", "/tmp/ctt-leases"),
        metadata={"help": "folder of the device leases, shared by all sweeps of this host (environment: CTT_LEASES)"},
    )
    hang_min: float | None = setting(60.0, "minutes without any progress after which a job is ended", above=0)
    detach: bool = setting(False, "submit, or start in a session of its own, and return at once")
    prefix: Resources = setting(Resources, "what of SLURM's resources differs for the jobs of shared prefixes")
    array_parallelism: int = setting(256, "most tasks of one SLURM array that run at once", minimum=1)
    signal_delay_s: int = setting(120, "seconds before its time limit at which SLURM asks a job to stop", minimum=1)
    poll_s: float = setting(5.0, "seconds between questions to SLURM, one for all jobs", above=0)
    setup: list[str] = setting(list, "shell lines before each SLURM job, like `module load cuda`")
    options: list[str] = setting(list, "further options of sbatch, like --mail-type=END")

    def of(self, prefix: bool) -> Resources:
        """The resources of the job of a shared prefix, or of a run's job."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(Resources)}
        if prefix:
            own |= {f.name: v for f in dataclasses.fields(Resources) if (v := getattr(self.prefix, f.name)) is not None}
        return Resources(**own)
