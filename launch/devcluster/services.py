"""Services: how each daemon of the cluster is started, and when it is ready."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from daemons import Daemons, until
from ports import listens

SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
START_SECONDS = 30.0


class ClusterError(Exception):
    """The cluster can't be started or doesn't answer; the message names the log."""


def environment_of(folder: Path) -> dict[str, str]:
    """Environment variables with which SLURM's commands use the cluster in `folder`."""
    return {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": SEARCH}


class Services:
    """`run` runs one of SLURM's commands and returns its output."""

    def __init__(self, folder: Path, daemons: Daemons, run: Callable[..., str]) -> None:
        self.folder, self.daemons, self.run = folder, daemons, run

    def munge(self) -> None:
        """Starts munged, which signs the messages between SLURM's daemons."""
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
        self.start("munged", "munged", "--foreground", "--force", "--num-threads=2", *options)
        self.wait("munged", (run / "munge.socket").exists)

    def accounting(self, ports: dict[str, int]) -> None:
        """Starts MariaDB and slurmdbd, which records jobs in it."""
        data, run = self.folder / "database", self.folder / "run"
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
        self.start("mariadbd", "mariadbd", "--no-defaults", *user, *options)
        self.wait("mariadbd", lambda: listens(ports["database"]))
        self.start("slurmdbd", "slurmdbd", "-D", SLURMDBD_CONF=str(self.folder / "slurmdbd.conf"))
        self.wait("slurmdbd", lambda: "ctt" in self._registered())

    def _registered(self) -> str:
        names = self.run("sacctmgr", "-n", "-P", "show", "cluster", "format=cluster")
        return names or self.run("sacctmgr", "-i", "add", "cluster", "ctt")

    def start(self, name: str, *command: str, **variables: str) -> None:
        """Starts a daemon of the cluster unless it is alive."""
        node = name.partition(".")[2]
        environment = {**environment_of(self.folder), **({"CTT_NODE": node} if node else {}), **variables}
        for inherited in [key for key in environment if key.startswith(("SLURM_JOB", "SLURM_STEP"))]:
            del environment[inherited]
        program = shutil.which(command[0], path=SEARCH) or command[0]
        self.daemons.start(name, [program, *command[1:]], environment, self.folder / "log" / f"{name}.out")

    def _once(self, name: str, *command: str) -> None:
        log = self.folder / "log" / f"{name}.out"
        with open(log, "ab") as output:
            done = subprocess.run(command, env=environment_of(self.folder), stdout=output, stderr=output, check=False)
        if done.returncode:
            raise ClusterError(f"{name} failed; see {log}")

    def wait(self, name: str, ready: Callable[[], bool]) -> None:
        """Waits until the daemon is ready. Raises ClusterError if it ends or takes longer than START_SECONDS."""
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
