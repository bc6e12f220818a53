"""Resources: where jobs run and what each may use (the group `launch`). Nothing here changes a result."""

from __future__ import annotations

import dataclasses
import os

from ctt.settings import Settings, setting


@dataclasses.dataclass
class LaunchSettings(Settings):
    """Where jobs run, how many at once, and the devices they have."""

    kind: str = setting("inproc", "where jobs run: its YAML lies in launch/", choices=("inproc", "local", "slurm"))
    jobs: int | None = setting(
        1, "jobs alive at once; null: as many as there are devices (local), all that are ready (slurm)", minimum=1
    )
    gpus_per_job: int = setting(1, "GPUs of a job, where there are any", minimum=1)
    devices: list[str] | None = setting(
        None, "the GPUs that local jobs may lease, as CUDA_VISIBLE_DEVICES names them; null: all that are visible"
    )
    timeout_min: float | None = setting(
        None, "minutes after which a job must write its checkpoint and end; it is continued while it gets on", above=0
    )
    hang_min: float | None = setting(60.0, "minutes without any progress after which a local job is ended", above=0)
    detach: bool = setting(False, "submit, or start in a session of its own, and return at once")
    leases: str = dataclasses.field(
        default_factory=lambda: os.environ.get("CTT_LEASES", "/tmp/ctt-leases"),
        metadata={"help": "folder of the device leases, shared by all sweeps of this host (environment: CTT_LEASES)"},
    )
