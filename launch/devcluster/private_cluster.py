"""A private SLURM cluster in one folder: real daemons on this host, on free ports of loopback.

FOLDER holds everything: configuration, keys, database, spools and logs. Each daemon runs in a session of its own; its
process id and start time are recorded in FOLDER/daemons.json, and only processes recorded there, or job steps with this
cluster's SLURM_CONF, are ever signalled. It needs no systemd, no cgroups and no root: jobs run as the user who started it.
Standard library only.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import processes
from daemons import Daemons, until
from ports import free_ports, one_at_a_time
from services import SEARCH, ClusterError, Services, environment_of
from slurm_files import Size, cgroup_conf, gres_conf, simulated_device, slurm_conf, slurmdbd_conf, write

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
ACCOUNTING_PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db")
PACKAGES = "slurm-wlm munge slurmdbd mariadb-server"
END_SECONDS = 15.0
SOCKET_LENGTH = 100  # the kernel takes 107 characters for the path of a unix socket


def missing_programs(accounting: bool = True) -> list[str]:
    """Programs that a cluster needs and that are not installed."""
    wanted = PROGRAMS + (ACCOUNTING_PROGRAMS if accounting else ())
    return [program for program in wanted if shutil.which(program, path=SEARCH) is None]


class Cluster:
    """The cluster in `folder`. `up` starts what isn't running; `up` and `down` may be called repeatedly."""

    def __init__(self, folder: Path | str, size: Size | None = None) -> None:
        self.folder = Path(folder).resolve()
        self.size = size or self._recorded_size() or Size()
        self.daemons = Daemons(self.folder / "daemons.json")
        self.services = Services(self.folder, self.daemons, self.run)
        self._watch: subprocess.Popen[bytes] | None = None

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with which SLURM's commands use this cluster."""
        return environment_of(self.folder)

    def up(self) -> None:
        """Starts the daemons and waits until every node is ready. Raises ClusterError, which names the log."""
        if missing := missing_programs(self.size.accounting):
            raise ClusterError(f"missing {', '.join(missing)}: apt-get install --no-install-recommends {PACKAGES}")
        if len(str(self.folder)) > SOCKET_LENGTH - len("/run/munge.socket"):
            raise ClusterError(f"the path {self.folder} is too long for a unix socket; choose a shorter one")
        for name in ("log", "run", "state", "devices", *(f"spool/{node}" for node in self.size.names)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        with one_at_a_time():  # ports are free until the daemons listen
            self._write_configuration()
            self.services.munge()
            if self.size.accounting:
                self.services.accounting(self.ports())
            self.services.start("slurmctld", "slurmctld", "-D")
            self.services.wait("slurmctld", lambda: "is UP" in self.run("scontrol", "ping"))
            for node in self.size.names:
                self.services.start(f"slurmd.{node}", "slurmd", "-D", "-N", node)
            self.services.wait("slurmctld", self._all_ready)

    def end_with_caller(self) -> None:
        """Starts a process that stops the cluster and removes its folder when the calling process ends, even by a kill.

        It reads from a pipe that only the caller can write to.
        """
        command = [sys.executable, str(Path(__file__).resolve().with_name("cluster.py")), "watch", str(self.folder)]
        self._watch = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def down(self, *, wipe: bool = False) -> None:
        """Cancels all jobs, stops the daemons, dependent ones first, and with `wipe` removes the folder."""
        if self.daemons.alive("slurmctld"):
            with contextlib.suppress(ClusterError):
                self.run("scancel", "--user", getpass.getuser())
                until(lambda: not self.run("squeue", "-h"), END_SECONDS)
        for name in sorted(self.daemons.recorded(), key=_stop_order):
            self.daemons.end(name, END_SECONDS)
        for pid in self._with_tasks(self.steps()):
            processes.kill(pid, signal.SIGKILL)
        if wipe:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._watch is not None and self._watch.stdin is not None:
            self._watch.communicate(b"done")
            self._watch = None

    def crash(self, node: str) -> None:
        """Kills a node's slurmd, its job steps and all their processes, as when a node fails.

        If only slurmd were killed, the steps and their tasks would continue to write.
        """
        self._check_node(node)
        victims = self._with_tasks(self.steps(node))
        self.daemons.end(f"slurmd.{node}", END_SECONDS, first=signal.SIGKILL)
        for pid in victims:
            processes.kill(pid, signal.SIGKILL)
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=crash")

    def start(self, node: str) -> None:
        """Starts a crashed node again and waits until it accepts jobs."""
        self._check_node(node)
        self.services.start(f"slurmd.{node}", "slurmd", "-D", "-N", node)
        self.services.wait(f"slurmd.{node}", lambda: self._resume(node))

    def run(self, *command: str) -> str:
        """Runs one of SLURM's commands against this cluster; its output. Raises ClusterError if it fails."""
        try:
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ClusterError(f"{' '.join(command)}: {error}") from error
        if done.returncode:
            raise ClusterError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
        return done.stdout.strip()

    def steps(self, node: str | None = None) -> list[int]:
        """Ids of this cluster's slurmstepd processes (of one node), found by the SLURM_CONF in their environment."""
        found = []
        for pid in processes.processes():
            if processes.name(pid) != "slurmstepd":
                continue
            variables = processes.environment(pid)
            if variables.get("SLURM_CONF") == str(self.conf) and node in (None, variables.get("CTT_NODE")):
                found.append(pid)
        return found

    @staticmethod
    def _with_tasks(steps: list[int]) -> list[int]:
        return [pid for step in steps for pid in (step, *processes.descendants(step))]

    def running(self) -> dict[str, int]:
        """Name → process id of the daemons that are alive."""
        return {name: pid for name, pid in self.daemons.recorded().items() if self.daemons.alive(name)}

    def leftovers(self) -> list[str]:
        """Live processes of this cluster, daemons and steps, as "PID NAME"; empty after `down`."""
        mine = {f"SLURM_CONF={self.conf}", f"SLURMDBD_CONF={self.folder}/slurmdbd.conf"}
        names = ("munged", "slurmctld", "slurmd", "slurmdbd", "slurmstepd", "mariadbd")
        return [
            f"{pid} {processes.name(pid)}"
            for pid in processes.processes()
            if processes.name(pid).startswith(names)
            and processes.began(pid)
            and mine & {f"{k}={v}" for k, v in processes.environment(pid).items()}
        ]

    def ports(self) -> dict[str, int]:
        """Ports of the daemons: controller, accounting, database and one for each node."""
        ports: dict[str, int] = json.loads((self.folder / "cluster.json").read_text())["ports"]
        return ports

    # Nodes

    def _all_ready(self) -> bool:
        states = self.run("sinfo", "-h", "-N", "-p", "debug", "-o", "%t").split()
        return len(states) == self.size.nodes and all(state in ("idle", "mix", "alloc") for state in states)

    def _resume(self, node: str) -> bool:
        state = self.run("sinfo", "-h", "-n", node, "-p", "debug", "-o", "%t")
        if state.startswith("down") and not state.endswith("*"):
            self.run("scontrol", "update", f"nodename={node}", "state=resume")
        return state in ("idle", "mix", "alloc")

    def _check_node(self, node: str) -> None:
        if node not in self.size.names:
            raise ClusterError(f"there is no node {node}; the nodes are {', '.join(self.size.names)}")

    # Configuration

    def _recorded_size(self) -> Size | None:
        try:
            return Size(**json.loads((self.folder / "cluster.json").read_text())["size"])
        except FileNotFoundError:
            return None

    def _write_configuration(self) -> None:
        if self.running():  # the daemons use the existing files
            return
        wanted = ["controller", "accounting", "database", *self.size.names]
        ports = dict(zip(wanted, free_ports(len(wanted)), strict=True))
        write(self.folder / "cluster.json", json.dumps({"size": asdict(self.size), "ports": ports}))
        for i in range(self.size.gpus):
            simulated_device(self.folder / "devices" / f"nvidia{i}")
        write(self.conf, slurm_conf(self.folder, self.size, ports))
        write(self.folder / "cgroup.conf", cgroup_conf(self.run("slurmctld", "-V").split()[-1]))
        if self.size.gpus:
            write(self.folder / "gres.conf", gres_conf(self.folder, self.size))
        write(self.folder / "slurmdbd.conf", slurmdbd_conf(self.folder, ports), mode=0o600)


def _stop_order(name: str) -> int:
    order = ("slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged")
    return order.index(name.partition(".")[0])
