"""One training over two virtual nodes: srun starts a process on each, Lightning's DDP over gloo joins them."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ctt.launch.frozen import freeze
from ctt.plan import compile_plan
from ctt.store import Store
from ctt.sweep import compile_sweep
from tests.tiny import TINY

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).resolve().parents[2]


def test_two_nodes_train_one_model_and_one_of_them_writes(cluster: Any, tmp_path: Path) -> None:
    """The same parameters to the bit on both, and a frozen job whose artifacts are those of one builder."""
    store = Store.open(tmp_path / "store")
    plan = compile_plan(compile_sweep("demo", [*TINY, "ctt_start_epoch=1", "seed=0"]))
    trunk = next(job for job in plan.jobs if job.trunk)
    job = freeze(trunk, store, tmp_path, 0)
    python = f"srun --output {tmp_path}/%t.log --open-mode append {sys.executable} -m"
    script = f"""
        export PYTHONPATH={ROOT} OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=lo
        {python} tests.training.several {tmp_path} dropout && {python} ctt.launch.frozen {job.path}
    """
    options = ["-N2", "--ntasks-per-node=1", "-o", f"{tmp_path}/batch.log", "--wrap", script]
    number = cluster.run("sbatch", "--parsable", *options)
    state, end = "", time.monotonic() + 300
    while not state.startswith(("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")):
        assert time.monotonic() < end
        time.sleep(0.5)
        state = cluster.run("sacct", "-n", "-X", "-P", "-j", number, "-o", "state").partition("\n")[0]
    logs = [(tmp_path / f"{rank}.log").read_text() for rank in (0, 1)]
    assert state == "COMPLETED", "\n".join(logs)

    ours, theirs = (torch.load(tmp_path / f"dropout.{rank}.pt") for rank in (0, 1))
    assert ours.keys() == theirs.keys() and all(torch.equal(value, theirs[key]) for key, value in ours.items())
    assert store.has(trunk.target.key)
    assert "built world_model" in logs[0] and "ctt: " not in logs[1], "the second one only helps"
    for key in list(store.keys()):
        manifest = store.manifest(key)
        together = manifest["provenance"]["numerics"].endswith(", 2 processes")
        assert together == (manifest["kind"] == "world_model")
    assert not list((store.root / "work").glob("*")) and not list((store.root / "failures").glob("*"))
    outcome = json.loads((tmp_path / "0000.outcome.json").read_text())
    assert outcome["failure"] is None and os.path.exists(job.path)
