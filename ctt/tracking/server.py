"""serve: MLflow's web interface on a store, which is kept up to date with the store as long as it runs."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

from ctt.core.errors import CttError, LeaseHeld, UsageError
from ctt.core.secrets import masked
from ctt.tracking.database import artifacts_path, prepare_database
from ctt.tracking.limits import ARTIFACTS
from ctt.tracking.page import address_of, start_of
from ctt.tracking.syncer import Syncer
from ctt.tracking.tracking_settings import database_address
from ctt.tracking.view import Unreachable, quiet

LOOPBACK = ("127.0.0.1", "localhost")
EVERYWHERE = ("0.0.0.0", "::")
APP = "ctt"  # the entry point of ctt/tracking/mlflow_app.py
START_SECONDS = 120.0
END_SECONDS = 10.0


def serve(
    store_root: Path,
    host: str = "127.0.0.1",
    port: int = 5000,
    *,
    syncer: Syncer | None = None,
    allowed_hosts: str | None = None,
    stop: threading.Event | None = None,
    report: Callable[[str], None] = lambda text: print(text, flush=True),
    doing: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> None:
    """Serves the store's MLflow database until Ctrl-C, SIGTERM or `stop`, and leaves no process behind.

    An absent database is made, an older one upgraded (its copy is kept). port 0 takes a free one. `syncer` keeps
    following meanwhile. Where it sends to a server (tracking.kind=server), that server is named and only followed.
    report takes the addresses, those of sweeps that begin later too; doing, meanwhile, what takes seconds.
    allowed_hosts: the names under which browsers may call it, for another host than loopback (default: this machine's).
    Raises UsageError if the port is taken, CttError if MLflow doesn't start; its output is in tracking/server.log.
    """
    stop = stop or threading.Event()
    restore = _stop_on_signals(stop)
    server = news = None
    try:
        if syncer is not None and syncer.settings.kind == "server":
            report(f"MLflow: {masked(str(syncer.settings.uri))}")
        else:
            port = free_port(host, port)
            doing("ctt: starting MLflow, which takes some seconds")
            _prepare(Path(store_root), syncer)
            server = start_server(Path(store_root), host, port, allowed_hosts)
            await_answer(server, host, port, stop, Path(store_root) / "tracking" / "server.log")
            address = f"http://{socket.gethostname() if host in EVERYWHERE else host}:{port}"
            report(f"MLflow: {start_of(address)}")
            if syncer is not None:
                doing("ctt: bringing MLflow up to date with the store")
                syncer.sync_once()
                news = _Addresses(syncer, address, report)
                news.report()
        follower = threading.Thread(target=syncer.follow, args=(stop,), daemon=True) if syncer is not None else None
        if follower:
            follower.start()
        while not stop.wait(0.5):
            if server is not None and server.poll() is not None:
                raise CttError(f"MLflow ended by itself with code {server.returncode}; see tracking/server.log")
            if news is not None:
                with contextlib.suppress(Unreachable):  # asked again
                    news.report()
        if follower:
            follower.join(END_SECONDS)
    finally:
        stop.set()
        if server is not None:
            end_group(server)
        restore()


class _Addresses:
    """Reports where a browser finds the sweeps of a syncer, each sweep once."""

    def __init__(self, syncer: Syncer, server: str, report: Callable[[str], None]) -> None:
        self._syncer, self._server, self._report = syncer, server, report
        self._reported: set[str] = set()
        self._next = 0.0

    def report(self) -> None:
        """Reports those that were not there the last time, if that was two seconds ago."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 2
        new = not self._syncer.places() <= self._reported
        for name, experiment in sorted(self._syncer.experiments().items()) if new else ():
            if name not in self._reported:
                self._report(f"  {name}: {address_of(self._server, experiment)}")
                self._reported.add(name)


def _prepare(store_root: Path, syncer: Syncer | None) -> None:
    try:
        with syncer.exclusive() if syncer is not None else contextlib.nullcontext():
            prepare_database(store_root)
            return
    except LeaseHeld:  # a sweep is running and syncs
        prepare_database(store_root, upgrade=False)


# MLflow gets SIGTERM, and ends its own children, when the process that started it dies (Linux: PR_SET_PDEATHSIG is 1).
_START = """
import ctypes, os, signal, sys
try:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
except (OSError, AttributeError):
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that started this is gone")
os.execv(sys.executable, [sys.executable, "-m", "mlflow", *sys.argv[2:]])
"""


def start_server(
    store_root: Path, host: str, port: int, allowed_hosts: str | None = None, *, backend: str | None = None
) -> subprocess.Popen[bytes]:
    """Starts MLflow in a session of its own; it ends with the thread that called this.

    backend: the database's address (postgresql://…); None: the store's own.
    """
    quiet()
    command = [
        sys.executable,
        "-c",
        _START,
        str(os.getpid()),
        "server",
        "--host",
        host,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += ["--backend-store-uri", backend or database_address(store_root)]
    command += ["--default-artifact-root", ARTIFACTS, "--artifacts-destination", artifacts_path(store_root).as_uri()]
    if entry_points(group="mlflow.app", name=APP):  # absent where an older ctt was installed from this checkout
        command += ["--app-name", APP]
    if host not in LOOPBACK:
        names = {host, socket.gethostname(), socket.getfqdn(), *LOOPBACK} - set(EVERYWHERE)
        command += ["--allowed-hosts", allowed_hosts or ",".join(f"{n},{n}:{port}" for n in sorted(names))]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_LOGGING_LEVEL": "WARNING"}
    log = Path(store_root) / "tracking" / "server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )


def await_answer(server: subprocess.Popen[bytes], host: str, port: int, stop: threading.Event, log: Path) -> None:
    """Waits until MLflow answers or `stop` is set; CttError names its log if it ends or is silent."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and not stop.is_set():
        if server.poll() is not None:
            raise CttError(f"MLflow did not start (code {server.returncode}); see {log}")
        try:
            with urllib.request.urlopen(f"http://{'127.0.0.1' if host in EVERYWHERE else host}:{port}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            stop.wait(0.2)
    if not stop.is_set():
        raise CttError(f"MLflow did not answer within {START_SECONDS:.0f} s; see {log}")


def free_port(host: str, port: int) -> int:
    """The port, or any free one for 0. Raises UsageError if it is taken or none, or the address is not this machine's."""
    if not 0 <= port <= 65535:
        raise UsageError(f"--port must lie in 0..65535 (0: any free one), got {port}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except socket.gaierror as error:
            raise UsageError(f"--host {host}: no such address ({error.strerror})") from error
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise UsageError(f"--host {host} is not an address of this machine ({error.strerror})") from error
            what = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise UsageError(f"port {port} of {host} {what}; choose another with --port N") from error
        return int(probe.getsockname()[1])


def _stop_on_signals(stop: threading.Event) -> Callable[[], None]:
    """Lets Ctrl-C and SIGTERM set `stop` (in the main thread only, where Python allows it); returns the way back."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = {n: signal.signal(n, lambda *_: stop.set()) for n in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore


def end_group(server: subprocess.Popen[bytes]) -> None:
    """Ends a process started as the leader of its own session, and all its children: asked first, then killed."""
    for number, patience in ((signal.SIGTERM, END_SECONDS), (signal.SIGKILL, END_SECONDS)):
        try:
            os.killpg(server.pid, number)
        except ProcessLookupError:
            break
        end = time.monotonic() + patience
        while time.monotonic() < end and _alive(server):
            time.sleep(0.05)
    server.wait()


def _alive(server: subprocess.Popen[bytes]) -> bool:
    server.poll()
    try:
        os.killpg(server.pid, 0)
    except ProcessLookupError:
        return False
    return True
