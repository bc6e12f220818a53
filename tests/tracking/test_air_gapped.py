"""Nodes without a network: what runs there talks to nobody; `ctt sync` on another machine that sees the store shows it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from ctt.tracking.server import await_answer, end_group, free_port, start_server
from tests.tiny import TINY, ctt, environment

SMALL = [one.replace("world_model.epochs=3", "world_model.epochs=2") for one in TINY]
SWEEP = ["-m", *SMALL, "reader.enabled=false", "diagnostics.enabled=false", "seed=0"]
CUT_OFF = """
import os, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        os.write(2, f"{event} {arguments[1:]}".encode())
        os._exit(77)

sys.addaudithook(refuse)
from ctt.cli import main
main(sys.argv[1:])
"""


def ask(server: str, path: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{server}/api/2.0/mlflow/{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def on_a_node(store: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CUT_OFF, *words]
    return subprocess.run(command, env=environment(store), capture_output=True, text=True, timeout=300)


def test_a_login_node_shows_what_nodes_without_a_network_did(store_with_data: Path, empty_database: Path, tmp_path: Path) -> None:
    store, remote = store_with_data, shutil.copytree(empty_database, tmp_path / "remote")
    done = on_a_node(store, *SWEEP, "tracking=off")
    assert done.returncode == 0, done.stdout + done.stderr
    port = free_port("127.0.0.1", 0)
    address = f"tracking.uri=http://127.0.0.1:{port}"
    refused = on_a_node(store, "sync", address)
    assert refused.returncode == 77 and "socket." in refused.stderr, "the node really has no network"

    server = start_server(remote, "127.0.0.1", port)
    try:
        await_answer(server, "127.0.0.1", port, threading.Event(), remote / "tracking" / "server.log")
        assert not ctt(store, "sync", address).stdout.startswith("0 metric values")
        url = f"http://127.0.0.1:{port}"
        (experiment,) = [
            found["experiment_id"]
            for found in ask(url, "experiments/search", {"max_results": 10})["experiments"]
            if found["name"] == "multirun"
        ]
        (run,) = [
            found
            for found in ask(url, "runs/search", {"experiment_ids": [experiment], "max_results": 10})["runs"]
            if "seed=0" in found["info"]["run_name"]
        ]
        assert run["info"]["status"] == "FINISHED"
        metrics = {metric["key"]: metric for metric in run["data"]["metrics"]}
        (path,) = store.glob("artifacts/*/*/predictions.parquet")
        recorded = json.loads((path.parent / "metrics.json").read_text())
        assert metrics["average"]["value"] == pytest.approx(recorded["average"], abs=0.006)
        assert metrics["world_model/train_loss"]["step"] == 2, "the curve, to its last epoch"
        assert ctt(store, "sync", address).stdout.startswith("0 metric values"), "a second time changes nothing"
    finally:
        end_group(server)
