#!/usr/bin/env python3
"""A private SLURM cluster in one folder: real daemons on this host, on loopback, on free ports, gone when told so.

    python launch/devcluster/cluster.py up FOLDER        # two nodes of 8 CPUs and 4 pretend GPUs, with accounting
    export SLURM_CONF=FOLDER/slurm.conf                  # then sbatch, squeue, sacct ... as on any cluster
    python launch/devcluster/cluster.py crash FOLDER node1 | start FOLDER node1 | status FOLDER
    python launch/devcluster/cluster.py down FOLDER --wipe

Everything lies in FOLDER: configuration, keys, database, spools and logs. Each daemon runs in a session of its
own; its process id and start time are noted in FOLDER/daemons.json, and only processes noted there, or job steps that
carry this cluster's SLURM_CONF, are ever signalled. It needs no systemd, no cgroups and no root: jobs run as the user
who started it. Standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import getpass
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import processes
from daemons import Daemons, until
from slurm_files import Size, cgroup_conf, gres_conf, pretend_device, slurm_conf, slurmdbd_conf, write

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
ACCOUNTING_PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db")
PACKAGES = "slurm-wlm munge slurmdbd mariadb-server"
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
START_SECONDS, END_SECONDS = 30.0, 15.0
SOCKET_LENGTH = 100  # the kernel takes 107 characters for the path of a unix socket


class ClusterError(Exception):
    """The cluster can't be started or doesn't answer; the message says which log to read."""


def missing_programs(accounting: bool = True) -> list[str]:
    """The programs a cluster needs and this host lacks."""
    wanted = PROGRAMS + (ACCOUNTING_PROGRAMS if accounting else ())
    return [program for program in wanted if shutil.which(program, path=SEARCH) is None]


class Cluster:
    """The cluster in `folder`. `up` starts what isn't running, so it may be called again; so may `down`."""

    def __init__(self, folder: Path | str, size: Size | None = None) -> None:
        self.folder = Path(folder).resolve()
        self.size = size or self._recorded_size() or Size()
        self.daemons = Daemons(self.folder / "daemons.json")

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make SLURM's commands talk to this cluster."""
        return {**os.environ, "SLURM_CONF": str(self.conf), "PATH": SEARCH}

    def up(self) -> None:
        """Starts the daemons and waits until every node is idle. Raises ClusterError with the log to read."""
        if missing := missing_programs(self.size.accounting):
            raise ClusterError(f"missing {', '.join(missing)}: apt-get install --no-install-recommends {PACKAGES}")
        if len(str(self.folder)) > SOCKET_LENGTH - len("/run/munge.socket"):
            raise ClusterError(f"the path {self.folder} is too long for a unix socket; use a shorter one")
        for name in ("log", "run", "state", "devices", *(f"spool/{node}" for node in self.size.names)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        with _one_at_a_time():  # ports are free until the daemons listen
            self._write_configuration()
            self._start_munge()
            if self.size.accounting:
                self._start_accounting()
            self._start("slurmctld", "slurmctld", "-D")
            self._await("slurmctld", lambda: "is UP" in self.run("scontrol", "ping"))
            for node in self.size.names:
                self._start(f"slurmd.{node}", "slurmd", "-D", "-N", node)
            self._await("slurmctld", self._all_ready)

    def down(self, *, wipe: bool = False) -> None:
        """Cancels all jobs, ends the daemons in the order of their dependence, and with `wipe` removes the folder."""
        if self.daemons.alive("slurmctld"):
            with contextlib.suppress(ClusterError):
                self.run("scancel", "--user", getpass.getuser())
                until(lambda: not self.run("squeue", "-h"), END_SECONDS)
        for name in sorted(self.daemons.noted(), key=_stop_order):
            self.daemons.end(name, END_SECONDS)
        for pid in self.steps():
            processes.kill(pid, signal.SIGKILL)
        if wipe:
            shutil.rmtree(self.folder, ignore_errors=True)

    def crash(self, node: str) -> None:
        """Sudden death of a node: its slurmd, its job steps and all their processes are killed, none asked.

        Killing slurmd alone would be no node death: the steps and their tasks would live on and go on writing.
        """
        self._check_node(node)
        victims = [pid for step in self.steps(node) for pid in (step, *processes.descendants(step))]
        self.daemons.end(f"slurmd.{node}", END_SECONDS, first=signal.SIGKILL)
        for pid in victims:
            processes.kill(pid, signal.SIGKILL)
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=crash")

    def start(self, node: str) -> None:
        """Brings a crashed node back and waits until it takes jobs."""
        self._check_node(node)
        self._start(f"slurmd.{node}", "slurmd", "-D", "-N", node)
        self._await(f"slurmd.{node}", lambda: self._resume(node))

    def run(self, *command: str) -> str:
        """Runs one of SLURM's commands against this cluster; its output. Raises ClusterError if it fails."""
        try:
            done = subprocess.run(
                command, env=self.environment, capture_output=True, text=True, timeout=30, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ClusterError(f"{' '.join(command)}: {error}") from error
        if done.returncode:
            raise ClusterError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
        return done.stdout.strip()

    def steps(self, node: str | None = None) -> list[int]:
        """Process ids of this cluster's slurmstepd processes (of one node), found by the SLURM_CONF they carry."""
        found = []
        for pid in processes.processes():
            if processes.name(pid) != "slurmstepd":
                continue
            variables = processes.environment(pid)
            if variables.get("SLURM_CONF") == str(self.conf) and node in (None, variables.get("CTT_NODE")):
                found.append(pid)
        return found

    def running(self) -> dict[str, int]:
        """Name → process id of the daemons that are alive."""
        return {name: pid for name, pid in self.daemons.noted().items() if self.daemons.alive(name)}

    def leftovers(self) -> list[str]:
        """Living processes that belong to this cluster, daemons and steps, as "PID NAME"; empty after `down`."""
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
        """The ports of the daemons: controller, accounting, database and one of each node."""
        return json.loads((self.folder / "cluster.json").read_text())["ports"]

    # Daemons

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        if not key.exists():
            key.touch(mode=0o600)
            key.write_bytes(os.urandom(1024))
        run = self.folder / "run"
        options = [f"--key-file={key}", f"--socket={run / 'munge.socket'}", f"--pid-file={run / 'munged.pid'}"]
        options += [f"--log-file={self.folder / 'log/munged.log'}", f"--seed-file={run / 'munged.seed'}"]
        if not self.daemons.alive("munged"):
            for stale in run.glob("munge.socket*"):
                stale.unlink()
        self._start("munged", "munged", "--foreground", "--force", "--num-threads=2", *options)
        self._await("munged", (run / "munge.socket").exists)

    def _start_accounting(self) -> None:
        data, run, ports = self.folder / "database", self.folder / "run", self.ports()
        user = ["--user=root"] if os.geteuid() == 0 else []
        if not (data / "mysql").is_dir():
            install = ["mariadb-install-db", "--no-defaults", *user, f"--datadir={data}", "--skip-test-db"]
            self._once("mariadb-install-db", *install, "--auth-root-authentication-method=normal")
        first = run / "first.sql"
        first.write_text(
            "CREATE DATABASE IF NOT EXISTS accounting;\n"
            "CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';\n"
            "GRANT ALL ON accounting.* TO 'slurm'@'127.0.0.1';\n"
        )
        options = [f"--datadir={data}", f"--socket={run / 'mysql.socket'}", f"--pid-file={run / 'mariadbd.pid'}"]
        options += ["--bind-address=127.0.0.1", f"--port={ports['database']}", f"--init-file={first}"]
        options += ["--skip-name-resolve", "--skip-log-bin", "--innodb-flush-log-at-trx-commit=0"]
        options += ["--innodb-buffer-pool-size=128M", "--innodb-lock-wait-timeout=900"]
        self._start("mariadbd", "mariadbd", "--no-defaults", *user, *options)
        self._await("mariadbd", lambda: _listens(ports["database"]))
        self._start("slurmdbd", "slurmdbd", "-D", SLURMDBD_CONF=str(self.folder / "slurmdbd.conf"))
        self._await("slurmdbd", lambda: "ctt" in self._registered())

    def _registered(self) -> str:
        names = self.run("sacctmgr", "-n", "-P", "show", "cluster", "format=cluster")
        return names or self.run("sacctmgr", "-i", "add", "cluster", "ctt")

    def _all_ready(self) -> bool:
        states = self.run("sinfo", "-h", "-N", "-p", "debug", "-o", "%t").split()
        return len(states) == self.size.nodes and all(state in ("idle", "mix", "alloc") for state in states)

    def _resume(self, node: str) -> bool:
        state = self.run("sinfo", "-h", "-n", node, "-p", "debug", "-o", "%t")
        if state.startswith("down") and not state.endswith("*"):
            self.run("scontrol", "update", f"nodename={node}", "state=resume")
        return state in ("idle", "mix", "alloc")

    def _start(self, name: str, *command: str, **variables: str) -> None:
        node = name.partition(".")[2]
        environment = {**self.environment, **({"CTT_NODE": node} if node else {}), **variables}
        for inherited in [key for key in environment if key.startswith(("SLURM_JOB", "SLURM_STEP"))]:
            del environment[inherited]
        program = shutil.which(command[0], path=SEARCH) or command[0]
        self.daemons.start(name, [program, *command[1:]], environment, self.folder / "log" / f"{name}.out")

    def _once(self, name: str, *command: str) -> None:
        log = self.folder / "log" / f"{name}.out"
        with open(log, "ab") as output:
            done = subprocess.run(command, env=self.environment, stdout=output, stderr=output, check=False)
        if done.returncode:
            raise ClusterError(f"{name} failed; see {log}")

    def _await(self, name: str, ready: Callable[[], bool]) -> None:
        logs, answer = f"see {self.folder / 'log'}/{name}.*", ""

        def settled() -> bool:
            nonlocal answer
            if not self.daemons.alive(name):
                raise ClusterError(f"{name} ended; {logs}")
            try:
                return ready()
            except ClusterError as error:
                answer = f" ({error})"
            return False

        if not until(settled, START_SECONDS):
            raise ClusterError(f"{name} is not ready after {START_SECONDS:.0f} s{answer}; {logs}")

    def _check_node(self, node: str) -> None:
        if node not in self.size.names:
            raise ClusterError(f"there is no {node} here, but {', '.join(self.size.names)}")

    # Configuration

    def _recorded_size(self) -> Size | None:
        try:
            return Size(**json.loads((self.folder / "cluster.json").read_text())["size"])
        except FileNotFoundError:
            return None

    def _write_configuration(self) -> None:
        if self.running():  # they run on what is written
            return
        wanted = ["controller", "accounting", "database", *self.size.names]
        ports = dict(zip(wanted, _free_ports(len(wanted)), strict=True))
        write(self.folder / "cluster.json", json.dumps({"size": asdict(self.size), "ports": ports}))
        for i in range(self.size.gpus):
            pretend_device(self.folder / "devices" / f"nvidia{i}")
        write(self.conf, slurm_conf(self.folder, self.size, ports))
        write(self.folder / "cgroup.conf", cgroup_conf(self.run("slurmctld", "-V").split()[-1]))
        if self.size.gpus:
            write(self.folder / "gres.conf", gres_conf(self.folder, self.size))
        write(self.folder / "slurmdbd.conf", slurmdbd_conf(self.folder, ports), mode=0o600)


def _stop_order(name: str) -> int:
    order = ("slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged")
    return order.index(name.partition(".")[0])


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Only one cluster of a user starts at a time, so that two can't choose the same ports."""
    with open(Path(tempfile.gettempdir()) / f"ctt-devcluster.{os.getuid()}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on, below the range from which the kernel gives ports to clients."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(10000, 30000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in ports:
                ports.append(port)
    return ports


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="cluster.py", description="A private SLURM cluster in one folder.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, text in {
        "up": "start it, or what is missing of it",
        "down": "cancel its jobs and end its daemons",
        "crash": "kill a node with all that runs on it",
        "start": "bring a node back",
        "status": "say what runs",
    }.items():
        command = verbs.add_parser(verb, help=text)
        command.add_argument("folder", type=Path)
        if verb in ("crash", "start"):
            command.add_argument("node")
        if verb == "down":
            command.add_argument("--wipe", action="store_true", help="remove the folder, too")
        if verb == "up":
            command.add_argument("--nodes", type=int, default=Size.nodes)
            command.add_argument("--cpus", type=int, default=Size.cpus)
            command.add_argument("--memory-mb", type=int, default=Size.memory_mb)
            command.add_argument("--gpus", type=int, default=Size.gpus)
            command.add_argument("--grace", type=int, default=Size.grace, help="seconds a preempted job has")
            command.add_argument(
                "--no-accounting", dest="accounting", action="store_false", help="no MariaDB, no sacct"
            )
    given = vars(parser.parse_args(arguments))
    verb, folder = given.pop("verb"), given.pop("folder")
    try:
        if verb == "up":
            cluster = Cluster(folder, Size(**given))
            cluster.up()
            print(cluster.run("sinfo", "-N", "-p", "debug", "-o", "%N %t %c CPUs %m MB %G"))
            print(f"export SLURM_CONF={cluster.conf}")
        elif verb == "status":
            cluster = Cluster(folder)
            for name, pid in cluster.running().items():
                print(f"{name} {pid}")
            return 0 if cluster.running() else 1
        elif verb == "down":
            Cluster(folder).down(wipe=given["wipe"])
        else:
            getattr(Cluster(folder), verb)(given["node"])
    except ClusterError as error:
        print(f"devcluster: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
