"""One training over two virtual nodes: srun starts a process on each, Lightning's DDP over gloo joins them."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ctt.execution.jobs.spec import freeze
from ctt.planning import compile_plan
from ctt.store import Store
from ctt.sweep import compile_sweep
from tests.execution.cluster.small_sweep import SETTINGS, SLURM, SmallSweep, has_pending, launched, resume
from tests.tiny import TINY, artifacts
from tests.waiting import until

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).resolve().parents[3]
SWEEP = "name: small\nbaseline: {ctt_inv_weight: 0.2}\n"


def test_two_nodes_train_one_model_and_one_of_them_writes(cluster: Any, tmp_path: Path) -> None:
    """Both have bitwise equal parameters, and a job on both publishes its artifacts once."""
    store = Store.open(tmp_path / "store")
    plan = compile_plan(compile_sweep("demo", [*TINY, "ctt_start_epoch=1", "seed=0", "data.train=6", "data.validation=4"]))
    prefix = next(job for job in plan.jobs if job.prefix)
    job = freeze(prefix, store, tmp_path, 0)
    python = f"srun --output {tmp_path}/%t.log --open-mode append {sys.executable} -m"
    script = f"""
        export PYTHONPATH={ROOT} OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=lo CTT_JOIN=srun
        {python} tests.training.several {tmp_path} dropout && {python} ctt.execution.jobs.job_process {job.path}
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
    assert store.has(prefix.target.key)
    assert "built world_model" in logs[0] and "buil" not in logs[1], "only the first one builds"
    for key in list(store.keys()):
        manifest = store.manifest(key)
        ddp = manifest["provenance"]["numerics"].endswith(", 2 processes")
        assert ddp == (manifest["kind"] == "world_model")
    assert not list((store.root / "work").glob("*")) and not list((store.root / "failures").glob("*"))
    outcome = json.loads((tmp_path / "0000.outcome.json").read_text())
    assert outcome["failure"] is None and os.path.exists(job.path)


def swept(store: Path, file: Path, cluster: Any, signalled: bool) -> SmallSweep:
    """A finished sweep of one run on two nodes; signalled: with a signal to stop in the middle of its training."""
    own = ["launch.nodes=2", "launch.setup=['export GLOO_SOCKET_IFNAME=lo']", "tracking=off"]
    small = SmallSweep(store, cluster)
    with launched(store, "sweep", str(file), *SETTINGS, *SLURM, *own) as (process, out):
        if signalled:
            until((store / "sweeps/small/0001/jobs/events.jsonl").exists, "jobs")
            writer = small.hold("baseline")["baseline"]  # the other process waits for it in the middle of a step
            cluster.run("scancel", "--signal=USR2", small.task("baseline"))
            until(lambda: has_pending(writer, signal.SIGUSR2), "the signal")
            resume(writer)
            until(lambda: "back into the queue" in small.log("baseline"), "a job that requeues itself")
            assert small.checkpoints("baseline")
        assert process.wait(300) == 0, out.read_text() + small.log("baseline")
    return small


@pytest.mark.skipif(os.environ.get("CTT_FAULTS") != "full", reason="minutes: `make faults` runs it")
def test_a_sweep_over_two_nodes_continues_after_a_signal_with_the_same_bytes(cluster: Any, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SWEEP)
    stopped, undisturbed = (swept(tmp_path / name, file, cluster, name == "stopped") for name in ("stopped", "other"))
    for small in (stopped, undisturbed):
        assert cluster.run("sacct", "-n", "-X", "-P", "-o", "NNodes", "-j", small.task("baseline")) == "2"
        [trained] = [small.store.manifest(key) for key, kind in small.kinds.items() if kind == "world_model"]
        assert trained["provenance"]["numerics"].endswith(", 2 processes")
        assert not list((small.store.root / "failures").glob("*"))
    assert [small.log("baseline").count("building world_model") for small in (stopped, undisturbed)] == [2, 1]
    assert artifacts(stopped.store.root) == artifacts(undisturbed.store.root)
