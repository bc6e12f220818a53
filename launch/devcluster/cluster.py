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
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
ACCOUNTING_PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db")
PACKAGES = "slurm-wlm munge slurmdbd mariadb-server"
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
START_SECONDS, END_SECONDS = 30.0, 15.0
SOCKET_LENGTH = 100  # the kernel takes 107 characters for the path of a unix socket


class ClusterError(Exception):
    """The cluster can't be started or doesn't answer; the message says which log to read."""


@dataclass(frozen=True)
class Size:
    """What the cluster pretends to have; all nodes are alike. grace: seconds a preempted job has to end by itself."""

    nodes: int = 2
    cpus: int = 8
    memory_mb: int = 16000
    gpus: int = 4
    accounting: bool = True
    grace: int = 20

    @property
    def names(self) -> list[str]:
        return [f"node{i}" for i in range(1, self.nodes + 1)]


def missing_programs(accounting: bool = True) -> list[str]:
    """The programs a cluster needs and this host lacks."""
    wanted = PROGRAMS + (ACCOUNTING_PROGRAMS if accounting else ())
    return [program for program in wanted if shutil.which(program, path=SEARCH) is None]


class Cluster:
    """The cluster in `folder`. `up` starts what isn't running, so it may be called again; so may `down`."""

    def __init__(self, folder: Path | str, size: Size | None = None) -> None:
        self.folder = Path(folder).resolve()
        self.size = size or self._recorded_size() or Size()
        self._children: dict[int, subprocess.Popen[bytes]] = {}

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
        if self._alive("slurmctld"):
            with contextlib.suppress(ClusterError):
                self.run("scancel", "--user", getpass.getuser())
                _until(lambda: not self.run("squeue", "-h"), END_SECONDS)
        for name in sorted(self._daemons(), key=_stop_order):
            self._end(name)
        for pid in self.steps():
            _kill(pid, signal.SIGKILL)
        if wipe:
            shutil.rmtree(self.folder, ignore_errors=True)

    def crash(self, node: str) -> None:
        """Sudden death of a node: its slurmd, its job steps and all their processes are killed, none asked.

        Killing slurmd alone would be no node death: the steps and their tasks would live on and go on writing.
        """
        self._check_node(node)
        victims = [pid for step in self.steps(node) for pid in (step, *_descendants(step))]
        daemon = self._daemons().get(f"slurmd.{node}")
        for pid in ([daemon["pid"]] if daemon and self._alive(f"slurmd.{node}") else []) + victims:
            _kill(pid, signal.SIGKILL)
        self._note(f"slurmd.{node}", None)
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
        for pid in _processes():
            if _name(pid) != "slurmstepd":
                continue
            variables = _environment(pid)
            if variables.get("SLURM_CONF") == str(self.conf) and node in (None, variables.get("CTT_NODE")):
                found.append(pid)
        return found

    def running(self) -> dict[str, int]:
        """Name → process id of the daemons that are alive."""
        return {name: record["pid"] for name, record in self._daemons().items() if self._alive(name)}

    def leftovers(self) -> list[str]:
        """Living processes that belong to this cluster, daemons and steps, as "PID NAME"; empty after `down`."""
        mine = {f"SLURM_CONF={self.conf}", f"SLURMDBD_CONF={self.folder}/slurmdbd.conf"}
        names = ("munged", "slurmctld", "slurmd", "slurmdbd", "slurmstepd", "mariadbd")
        return [
            f"{pid} {_name(pid)}"
            for pid in _processes()
            if _name(pid).startswith(names)
            and _began(pid)
            and mine & {f"{k}={v}" for k, v in _environment(pid).items()}
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
        if not self._alive("munged"):
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
        if self._alive(name):
            return
        node = name.partition(".")[2]
        environment = {**self.environment, **({"CTT_NODE": node} if node else {}), **variables}
        for inherited in [key for key in environment if key.startswith(("SLURM_JOB", "SLURM_STEP"))]:
            del environment[inherited]
        with open(self.folder / "log" / f"{name}.out", "ab") as output:
            child = subprocess.Popen(
                [shutil.which(command[0], path=SEARCH) or command[0], *command[1:]],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._children[child.pid] = child
        self._note(name, {"pid": child.pid, "began": _began(child.pid)})

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
            if not self._alive(name):
                raise ClusterError(f"{name} ended; {logs}")
            try:
                return ready()
            except ClusterError as error:
                answer = f" ({error})"
            return False

        if not _until(settled, START_SECONDS):
            raise ClusterError(f"{name} is not ready after {START_SECONDS:.0f} s{answer}; {logs}")

    def _end(self, name: str) -> None:
        pid = self._daemons()[name]["pid"]
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._alive(name):
                _kill(pid, number)
                _until(lambda: not self._alive(name), END_SECONDS)
        self._note(name, None)

    def _alive(self, name: str) -> bool:
        record = self._daemons().get(name)
        if record is None:
            return False
        if child := self._children.get(record["pid"]):
            child.poll()
        return _began(record["pid"]) == record["began"]

    def _daemons(self) -> dict[str, dict[str, int]]:
        try:
            return json.loads((self.folder / "daemons.json").read_text())
        except FileNotFoundError:
            return {}

    def _note(self, name: str, record: dict[str, int] | None) -> None:
        records = {**self._daemons(), name: record}
        _write(self.folder / "daemons.json", json.dumps({k: v for k, v in records.items() if v is not None}))

    def _check_node(self, node: str) -> None:
        if node not in self.size.names:
            raise ClusterError(f"there is no {node} here, but {', '.join(self.size.names)}")

    # Configuration

    def _cgroup_conf(self) -> str:
        version = self.run("slurmctld", "-V").split()[-1]
        return "CgroupPlugin=disabled\n" if int(version.split(".")[0]) >= 23 else "CgroupAutomount=no\n"

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
        _write(self.folder / "cluster.json", json.dumps({"size": asdict(self.size), "ports": ports}))
        for i in range(self.size.gpus):
            _pretend_device(self.folder / "devices" / f"nvidia{i}")
        _write(self.conf, slurm_conf(self.folder, self.size, ports))
        _write(self.folder / "cgroup.conf", self._cgroup_conf())
        if self.size.gpus:
            devices = f"{self.folder}/devices/nvidia[0-{self.size.gpus - 1}]"
            lines = [f"NodeName={node} Name=gpu File={devices}" for node in self.size.names]
            _write(self.folder / "gres.conf", "\n".join(lines) + "\n")
        _write(self.folder / "slurmdbd.conf", slurmdbd_conf(self.folder, ports), mode=0o600)


def slurm_conf(folder: Path, size: Size, ports: dict[str, int]) -> str:
    """slurm.conf: two partitions over all nodes; jobs of `low` are requeued when `debug` wants their place."""
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
        "# A requeued job waits until its old credential has expired: 120 s if left alone.",
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
        "# Nodes are what is said below, not what the host has, and come back by themselves after a crash.",
        "SlurmdParameters=config_overrides",
        "ReturnToService=2",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU_Memory",
        "# Quick decisions, quick ends.",
        "SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=5,bf_interval=5,"
        "requeue_setup_env_fail",
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


def _stop_order(name: str) -> int:
    order = ("slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged")
    return order.index(name.partition(".")[0])


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.touch(mode=mode)
    temporary.write_text(text)
    temporary.replace(path)


def _pretend_device(path: Path) -> None:
    """Something that looks like a GPU's device file: the null device where we may make one, else an empty file."""
    if path.exists():
        return
    try:
        os.mknod(path, 0o20666, os.makedev(1, 3))
    except PermissionError:
        path.touch()


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


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, [] if there is no such process: state, parent, ..."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _began(pid: int) -> int:
    """When a living process began, in clock ticks since boot; 0 if it has ended. With the id it names one process."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] != "Z" else 0


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _environment(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


def _descendants(pid: int) -> list[int]:
    parents = {p: int(fields[1]) for p in _processes() if (fields := _stat(p))}
    found = [pid]
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return found[1:]


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
