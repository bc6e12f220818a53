"""SLURM's configuration files of a private cluster, and the simulated size of the cluster."""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Size:
    """The simulated hardware; all nodes are alike. grace: seconds that a preempted job has to end."""

    nodes: int = 2
    cpus: int = 8
    memory_mb: int = 16000
    gpus: int = 4
    accounting: bool = True
    grace: int = 20

    @property
    def names(self) -> list[str]:
        return [f"node{i}" for i in range(1, self.nodes + 1)]


def slurm_conf(folder: Path, size: Size, ports: dict[str, int]) -> str:
    """slurm.conf: two partitions over all nodes; jobs in `debug` preempt jobs in `low`, which are requeued."""
    host, user = socket.gethostname().partition(".")[0], getpass.getuser()
    gres = f" Gres=gpu:{size.gpus}" if size.gpus else ""
    lines = [
        "ClusterName=ctt",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={ports['controller']}",
        f"SlurmUser={user}",
        f"SlurmdUser={user}",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        "# A requeued job waits until its old credential has expired: 120 s by default.",
        f"AuthInfo=socket={folder}/run/munge.socket,cred_expire=5",
        "# Loopback only.",
        "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmctldPidFile={folder}/run/slurmctld.pid",
        f"SlurmdPidFile={folder}/run/slurmd.%n.pid",
        f"SlurmctldLogFile={folder}/log/slurmctld.log",
        f"SlurmdLogFile={folder}/log/slurmd.%n.log",
        "# No cgroups: processes are tracked by their parents, memory is not enforced.",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/none",
        "MpiDefault=none",
        "# Nodes have the size given below, not that of the host, and return to service after a crash.",
        "SlurmdParameters=config_overrides",
        "ReturnToService=2",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU_Memory",
        "# Short intervals for scheduling and for the end of jobs.",
        "SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=5,bf_interval=5,requeue_setup_env_fail",
        "KillWait=5",
        "SlurmdTimeout=20",
        "SlurmctldTimeout=20",
        "MinJobAge=300",
        "MaxArraySize=10001",
        "JobRequeue=1",
        "EnforcePartLimits=ALL",
        "DependencyParameters=kill_invalid_depend",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        f"NodeName=DEFAULT CPUs={size.cpus} RealMemory={size.memory_mb}{gres} State=UNKNOWN",
        *(f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[node]}" for node in size.names),
        "PartitionName=DEFAULT Nodes=ALL MaxTime=INFINITE DefMemPerCPU=100 State=UP",
        "PartitionName=debug Default=YES PriorityTier=10 PreemptMode=OFF",
        f"PartitionName=low PriorityTier=1 PreemptMode=REQUEUE GraceTime={size.grace}",
    ]
    if size.gpus:
        lines.insert(1, "GresTypes=gpu")
    if size.accounting:
        lines += [
            "AccountingStorageType=accounting_storage/slurmdbd",
            "AccountingStorageHost=127.0.0.1",
            f"AccountingStoragePort={ports['accounting']}",
            f"AccountingStoragePass={folder}/run/munge.socket",
        ]
    return "\n".join(lines) + "\n"


def slurmdbd_conf(folder: Path, ports: dict[str, int]) -> str:
    """slurmdbd.conf: job records in the MariaDB of the same folder."""
    return f"""AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
DbdHost={socket.gethostname().partition(".")[0]}
DbdAddr=127.0.0.1
DbdPort={ports["accounting"]}
SlurmUser={getpass.getuser()}
PidFile={folder}/run/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports["database"]}
StorageUser=slurm
StoragePass=slurm
StorageLoc=accounting
"""


def cgroup_conf(version: str) -> str:
    """cgroup.conf, needed even without cgroups: releases before 23 have no plugin `disabled`."""
    return "CgroupPlugin=disabled\n" if int(version.split(".")[0]) >= 23 else "CgroupAutomount=no\n"


def gres_conf(folder: Path, size: Size) -> str:
    """gres.conf: the simulated GPUs of every node."""
    devices = f"{folder}/devices/nvidia[0-{size.gpus - 1}]"
    return "".join(f"NodeName={node} Name=gpu File={devices}\n" for node in size.names)


def simulated_device(path: Path) -> None:
    """Makes a GPU's device file: a link to the null device (SLURM reads the number in its name)."""
    if not path.exists():
        path.symlink_to(os.devnull)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Replaces a file atomically."""
    temporary = path.with_name(path.name + ".new")
    temporary.touch(mode=mode)
    temporary.write_text(text)
    temporary.replace(path)
