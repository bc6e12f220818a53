"""serve: MLflow's web interface on a store, with the store mirrored into it as long as it runs."""

from __future__ import annotations

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
from pathlib import Path

from ctt.errors import CttError, UsageError
from ctt.tracking.database import artifacts_path, prepare_database
from ctt.tracking.syncer import Syncer
from ctt.tracking.view import quiet

START_SECONDS = 60.0
END_SECONDS = 10.0


def serve(
    store_root: Path,
    host: str = "127.0.0.1",
    port: int = 5000,
    *,
    syncer: Syncer | None = None,
    stop: threading.Event | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Serves the store's MLflow database until Ctrl-C, SIGTERM or `stop`, and leaves no process behind.

    An absent database is made, an older one upgraded (its copy is kept). port 0 takes a free one. `syncer` keeps
    following meanwhile. Where it mirrors to a server (tracking=server), that server is named and only followed. Raises
    UsageError if the port is taken, CttError if MLflow doesn't start; its output lies in tracking/server.log.
    """
    stop = stop or threading.Event()
    restore = _stop_on_signals(stop)
    server = None
    try:
        if syncer is not None and syncer.settings.kind == "server":
            say(f"MLflow: {syncer.settings.uri}")
        else:
            port = _free_port(host, port)
            server = _start(Path(store_root).resolve(), host, port)
            _await_answer(server, host, port, stop, Path(store_root) / "tracking" / "server.log")
            say(f"MLflow: http://{host}:{port}")
        follower = threading.Thread(target=syncer.follow, args=(stop,), daemon=True) if syncer is not None else None
        if follower:
            follower.start()
        while not stop.wait(0.5):
            if server is not None and server.poll() is not None:
                raise CttError(f"MLflow ended by itself with code {server.returncode}; see tracking/server.log")
        if follower:
            follower.join(END_SECONDS)
    finally:
        stop.set()
        if server is not None:
            end_group(server)
        restore()


def _start(store_root: Path, host: str, port: int) -> subprocess.Popen[bytes]:
    quiet()
    database = prepare_database(store_root)
    artifacts = artifacts_path(store_root)
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{database}", "--default-artifact-root", artifacts.as_uri()]
    command += ["--artifacts-destination", artifacts.as_uri()]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONUNBUFFERED": "1"}
    log = store_root / "tracking" / "server.log"
    with open(log, "wb") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )


def _await_answer(server: subprocess.Popen[bytes], host: str, port: int, stop: threading.Event, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and not stop.is_set():
        if server.poll() is not None:
            raise CttError(f"MLflow did not start (code {server.returncode}); see {log}")
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            stop.wait(0.2)
    if not stop.is_set():
        raise CttError(f"MLflow did not answer within {START_SECONDS:.0f} s; see {log}")


def _free_port(host: str, port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"port {port} of {host} is taken ({error.strerror}); choose another with port=N"
            ) from error
        return probe.getsockname()[1]


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
