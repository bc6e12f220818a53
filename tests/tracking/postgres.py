"""A private PostgreSQL for tests: a cluster in a folder of its own, on loopback, that dies with this process."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctt.tracking.server import free_port

PROGRAMS = ("initdb", "postgres", "createdb")


def programs() -> dict[str, str]:
    """Where PostgreSQL's programs are: Debian keeps them out of PATH. Skips, or fails if CTT_REQUIRE_SYSTEM=1."""
    places = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    search = os.pathsep.join([*places, os.environ.get("PATH", "")])
    found = {name: shutil.which(name, path=search) for name in PROGRAMS}
    if missing := [name for name, path in found.items() if path is None]:
        reason = f"PostgreSQL is not installed: {', '.join(missing)} missing (apt-get install postgresql)"
        if os.environ.get("CTT_REQUIRE_SYSTEM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return {name: str(path) for name, path in found.items()}


class Postgres:
    """The server of one cluster; `uri` is what SQLAlchemy calls its database `mlflow`."""

    def __init__(self, folder: Path, found: dict[str, str]) -> None:
        self.folder, self.programs, self.port = folder, found, free_port("127.0.0.1", 0)
        self.uri = f"postgresql://ctt@127.0.0.1:{self.port}/mlflow"
        self.process: subprocess.Popen[bytes] | None = None
        # PostgreSQL refuses to run as root; as another user it can read nothing but its own folder.
        self.as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []

    def make(self) -> None:
        if os.geteuid() == 0:
            os.chown(self.folder, 65534, 65534)
        data = str(self.folder / "data")
        settings = ["-A", "trust", "-U", "ctt", "-E", "UTF8", "--no-locale", "--no-sync"]
        self._run(self.programs["initdb"], "-D", data, *settings)
        self.start()
        self._run(self.programs["createdb"], "-h", "127.0.0.1", "-p", str(self.port), "-U", "ctt", "mlflow")

    def start(self) -> None:
        """SIGINT is PostgreSQL's fast shutdown: setpriv lets it come with the death of this process."""
        words = ["-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder), "-F"]
        words += ["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=60"]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*(self.as_user or ["setpriv"]), "--pdeathsig", "INT", self.programs["postgres"], *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        end = time.monotonic() + 60
        ready = str(Path(self.programs["postgres"]).with_name("pg_isready"))
        while subprocess.run([ready, "-q", "-h", "127.0.0.1", "-p", str(self.port)]).returncode != 0:
            assert self.process.poll() is None and time.monotonic() < end, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.1)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(2)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _run(self, *words: str) -> None:
        done = subprocess.run([*self.as_user, *words], cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A running cluster with an empty database; its folder (short, for the socket's sake) goes with it."""
    found = programs()
    with tempfile.TemporaryDirectory(prefix="ctt-pg-") as folder:
        server = Postgres(Path(folder), found)
        try:
            server.make()
            yield server
        finally:
            server.stop()
