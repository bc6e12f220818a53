"""A real MLflow server on loopback: dead, slow and back again; and the one that `serve` starts."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from ctt.core.errors import UsageError
from ctt.tracking.database import prepare_database
from ctt.tracking.server import await_answer, end_group, free_port, serve, start_server
from ctt.tracking.syncer import Syncer
from ctt.tracking.tracking_settings import TrackingSettings, database_path
from tests.made_store import made_store
from tests.tiny import environment
from tests.tracking.made_up_runs import CATEGORIES, ROOT, SQLITE, finish, metrics, read_bytes, rows, run, work
from tests.waiting import until

pytestmark = pytest.mark.slow


def test_a_warning_holds_no_password(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port("127.0.0.1", 0)
    settings = TrackingSettings(kind="server", uri=f"http://me:s3cret@127.0.0.1:{port}", timeout=1)
    one = run(store)
    work(one.stages[0], range(1, 4))
    assert Syncer(settings, store, [one]).sync_once(patient=False) == 0
    assert "http://me:***@127.0.0.1" in caplog.text and "s3cret" not in caplog.text


def test_a_server_that_is_dead_slow_and_back_again(store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port("127.0.0.1", 0)
    settings = TrackingSettings(kind="server", uri=f"http://127.0.0.1:{port}", every=0.2, timeout=1)
    one = run(store)
    table = tmp_path / "table.md"
    table.write_text("| a table |")
    work(one.stages[0], range(1, 4))
    syncer = Syncer(settings, store, [one])
    began = time.monotonic()
    assert [syncer.sync_once(patient=False) for _ in range(3)] == [0, 0, 0]
    assert syncer.finish([table], "demo") is False
    assert time.monotonic() - began < 15, "nothing waits for a dead server"
    assert len(caplog.records) == 1 and "can't be reached" in caplog.text, "it warns once"

    remote = shutil.copytree(store, tmp_path / "remote", ignore=shutil.ignore_patterns("work", "artifacts"))
    server = start_server(remote, "127.0.0.1", port)
    stop = threading.Event()
    thread = threading.Thread(target=syncer.follow, args=(stop,), daemon=True)
    try:
        await_answer(server, "127.0.0.1", port, threading.Event(), remote / "tracking" / "server.log")
        thread.start()
        until(lambda: len(metrics(remote)) == 3)
        work(one.stages[0], range(4, 5))
        until(lambda: len(metrics(remote)) == 4, seconds=5)  # live

        os.killpg(server.pid, signal.SIGSTOP)
        work(one.stages[0], range(5, 8))
        time.sleep(2.5)
        assert len(metrics(remote)) == 4
        os.killpg(server.pid, signal.SIGCONT)
        until(lambda: len(metrics(remote)) == 7)
        finish(one.stages[0], validation={"error": 0.5})
        finish(one.stages[1], per_question=CATEGORIES)
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
        assert "nothing was lost" in caplog.text

        assert Syncer(settings, store, [one]).finish([], "demo") is True
        [copy] = (remote / "mlflow-artifacts").rglob("table.md")
        assert copy.read_text() == "| a table |"
        Syncer(SQLITE, store, [one]).sync_once()
        assert metrics(remote) == metrics(store), "the same as without all that"
    finally:
        stop.set()
        end_group(server)


def processes_of(store: Path) -> list[Path]:
    """The processes that name the store in their command line."""
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(store).encode() in read_bytes(path)]


SERVE = """
import sys
from pathlib import Path
from ctt.tracking.server import serve
from ctt.tracking.syncer import Syncer
from tests.tracking.made_up_runs import SQLITE, run
store = Path(sys.argv[1])
serve(store, port=0, syncer=Syncer(SQLITE, store, [run(store)]), report=lambda text: print(text, flush=True))
"""


def test_serve_shows_a_cold_store_follows_it_and_ends_clean(tmp_path: Path) -> None:
    store = tmp_path / "store"
    one = run(store)
    work(one.stages[0], range(1, 4))
    command = [sys.executable, "-c", SERVE, str(store)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        prepare_database(store)  # at the same time as the child: neither gets half a database
        assert child.stdout is not None
        address = child.stdout.readline().split()[1].partition("/#")[0]
        until(lambda: len(metrics(store)) == 3)
        work(one.stages[0], range(4, 5))
        until(lambda: len(metrics(store)) == 4, seconds=5)
        with urllib.request.urlopen(f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name=demo") as answer:
            assert json.load(answer)["experiment"]["name"] == "demo"
        with urllib.request.urlopen(address) as answer:
            assert b"<title>MLflow" in answer.read()
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 0
    finally:
        child.kill()
        child.wait()
    assert processes_of(store) == [], "no process is left"
    assert rows(database_path(store), "PRAGMA integrity_check") == [("ok",)]
    assert len(rows(database_path(store), "SELECT 1 FROM experiments")) == 2


KILLED = r"""
import os, signal, sys
from pathlib import Path
from ctt.tracking.server import start_server
server = start_server(Path(sys.argv[1]), "127.0.0.1", int(sys.argv[2]))
while sys.argv[3] == "late" and b"mlflow\0server" not in Path(f"/proc/{server.pid}/cmdline").read_bytes():
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a process when its parent dies")
@pytest.mark.parametrize("when", ["early", "late"])
def test_mlflow_dies_with_whoever_started_it(store: Path, when: str) -> None:
    port = str(free_port("127.0.0.1", 0))
    child = subprocess.run([sys.executable, "-c", KILLED, str(store), port, when], cwd=ROOT, check=False)
    assert child.returncode == -signal.SIGKILL
    until(lambda: processes_of(store) == [])


@pytest.mark.parametrize("status", [500, 502, 503, 507])
def test_a_server_that_only_fails_is_left_for_later(store: Path, status: int, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    one = run(store)
    work(one.stages[0], range(1, 3))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = TrackingSettings(kind="server", uri=f"http://127.0.0.1:{server.server_port}", timeout=1)
        began = time.monotonic()
        syncer = Syncer(settings, store, [one])
        assert [syncer.sync_once(patient=False) for _ in range(3)] == [0, 0, 0]
        assert time.monotonic() - began < 10
        server.shutdown()
    assert len(caplog.records) == 1 and "can't be reached" in caplog.text
    assert Syncer(SQLITE, store, [one]).sync_once() == 2


def test_a_taken_port_is_reported_before_anything_starts(store: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UsageError, match="is taken; choose another with --port N"):
            serve(store, port=other.getsockname()[1])


@pytest.mark.parametrize(
    "host, port, message",
    [
        ("127.0.0.1", 99999, "--port must lie in 0..65535"),
        ("127.0.0.1", -1, "--port must lie in 0..65535"),
        ("192.0.2.1", 0, "--host 192.0.2.1 is not an address of this machine"),
        ("no.such.host.invalid", 0, "--host no.such.host.invalid: no such address"),
    ],
)
def test_a_port_or_an_address_that_cannot_be_is_named(host: str, port: int, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        free_port(host, port)


def test_ui_reports_within_seconds_what_it_does_and_later_the_address_of_a_sweep_that_begins(store: Path) -> None:
    began = time.monotonic()
    command = [sys.executable, "-m", "ctt", "ui", "--port", "0", f"store={store}"]
    ui = subprocess.Popen(command, cwd=ROOT, env=environment(store), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert ui.stdout is not None
        assert "starting MLflow" in ui.stdout.readline()
        assert time.monotonic() - began < 3
        server = next(line for line in ui.stdout if line.startswith("MLflow:")).split()[1].partition("/#")[0]
        assert "bringing MLflow up to date" in ui.stdout.readline()
        made_store(store, "weights", "ctt_inv_weight=0,0.2", "seed=0")
        name, address = ui.stdout.readline().split()
        assert name == "weights:" and address.startswith(f"{server}/#/experiments/")
    finally:
        ui.send_signal(signal.SIGINT)
        assert ui.wait(60) == 0
