"""A sweep so small that a whole run takes seconds, for tests that build real stages."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests import forking

TINY = [
    "data=mini", "data.train=16", "data.validation=8", "data.workers=1",
    "world_model=mini", "world_model.epochs=3", "world_model.windows.per_epoch=64", "world_model.windows.validation=64",
    "aloe=mini", "aloe.epochs=1", "aloe.shares=[0.3,0.1,0.1,0.1]", "aloe.eval_videos=4", "diagnostics.windows=16",
    "device=cpu",
]  # fmt: skip
TINY_SWEEP = ["demo", *TINY, "ctt_start_epoch=1", "seed=0,1"]
TINY_ONE_SEED = [*TINY_SWEEP[:-1], "seed=0"]  # a shared prefix and two runs


def environment(store: Path) -> dict[str, str]:
    own = {"CTT_LEASES": str(store.parent / "leases"), "XDG_CONFIG_HOME": str(store.parent / "config")}
    return {**os.environ, **own, "CTT_STORE": str(store), "OMP_NUM_THREADS": "1", "COLUMNS": "120", "NO_COLOR": "1"}


def ctt(store: Path, *args: str, check: bool = True, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Runs `ctt` on a store; with `check`, fails with its output unless it exits with 0."""
    done = forking.run(args, environment(store), timeout)
    if check and done.returncode != 0:
        raise AssertionError(f"ctt {' '.join(args)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


ONE_AFTER_ANOTHER = """
import contextlib, io, json, sys, time
from ctt.cli import main

printed = []
for command in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as text:
        try:
            main(command)
        except SystemExit as end:
            assert not end.code, (command, end.code, text.getvalue())
    printed.append((text.getvalue(), time.time()))
print(json.dumps(printed))
"""


def ctt_commands(store: Path, *commands: Sequence[str], **variables: str) -> list[tuple[str, float]]:
    """What commands print that one process runs one after another, and when each ended (Unix seconds): most of a small
    command's time is its imports."""
    done = forking.run([json.dumps(commands)], {**environment(store), **variables}, 600, ONE_AFTER_ANOTHER)
    assert done.returncode == 0, done.stdout + done.stderr
    return [(text, ended) for text, ended in json.loads(done.stdout.splitlines()[-1])]


def artifacts(store: Path) -> dict[str, dict[str, str]]:
    """{key: {file: sha256}} of everything in a store, without the files that hold times."""
    out = {}
    for manifest in store.glob("artifacts/*/*/manifest.json"):
        files = json.loads(manifest.read_text())["files"]
        timeless = {n: f["sha256"] for n, f in files.items() if n not in ("metrics.jsonl", "metrics.json")}
        out[manifest.parent.name] = timeless
    return out
