"""The promise: whatever a cluster does to a sweep, all but what is broken in itself finishes, with an undisturbed run's bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctt.launch import events, frozen
from tests.tiny import TINY, artifacts, ctt, environment

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(os.environ.get("CTT_FAULTS") != "full", reason="many minutes: `make faults` runs it"),
]

SWEEP = """\
name: day
data: mini
world_model: mini
aloe: mini
baseline: {}
points:
  - {world_model.learning_rate: 0.0011}
  - {world_model.learning_rate: 0.0012}
  - {world_model.learning_rate: 0.0013}
  - {world_model.learning_rate: 1.0e+30}
"""
LONG = [*TINY, "world_model.epochs=8", "world_model.windows.per_epoch=1024", "tracking=off"]
LONG += ["diagnostics.enabled=false", "reader.enabled=false"]


class Jobs:
    """What is known of the sweep's jobs, from its record."""

    def __init__(self, store: Path, cluster: Any) -> None:
        self.folder, self.cluster = store / "sweeps/day/0001/jobs", cluster

    def last(self) -> dict[int, dict[str, Any]]:
        return events.last(self.folder)

    def label(self, number: int) -> str:
        return str(self.last()[number]["label"])

    def training(self) -> list[int]:
        """Numbers of the jobs whose world model is being trained: the virtual nodes are this host."""
        jobs = [job for job in frozen.read(self.folder) if frozen.running(job.mark)]
        return [job.number for job in jobs if frozen.stage_of(job.mark) == job.stages[1]]


def until(condition: Callable[[], Any], what: str, seconds: float = 400) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.2)
    return found


def disturb(jobs: Jobs, cluster: Any) -> None:
    """Cancels a job, crashes a node, ends a time slot, preempts: each while something trains."""
    first = until(lambda: len(jobs.training()) >= 2 and jobs.training(), "two trainings")
    node = cluster.run("squeue", "-h", "-j", jobs.last()[first[1]]["job_id"], "-o", "%N")
    cluster.run("scancel", jobs.last()[first[0]]["job_id"])
    cluster.crash(node)
    cluster.start(node)
    third = until(lambda: jobs.training(), "a training after the crash")[0]
    cluster.run("scancel", "--signal=USR2", jobs.last()[third]["job_id"])  # what SLURM sends before the limit
    log = jobs.folder / f"{third:04d}.log"
    until(lambda: "back into the queue" in log.read_text(), "a job that requeues itself")
    until(lambda: jobs.training(), "a training after the time slot")
    urgent = cluster.run("sbatch", "--parsable", "-pdebug", "-N2", "--exclusive", "-o/dev/null", "--wrap", "sleep 1")
    until(lambda: cluster.run("sacct", "-n", "-X", "-P", "-j", urgent, "-o", "State") == "COMPLETED", "preemption")


def test_a_disturbed_sweep_ends_with_the_bytes_of_an_undisturbed_one(cluster: Any, tmp_path: Path) -> None:
    sweep = tmp_path / "day.yaml"
    sweep.write_text(SWEEP)
    there, here = tmp_path / "slurm" / "store", tmp_path / "local" / "store"
    words = ["sweep", str(sweep), *LONG, "launch=slurm", "launch.partition=low", "launch.poll_s=1"]
    words += ["launch.timeout_min=3", "launch.signal_delay_s=60"]
    with open(tmp_path / "out", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ctt", *words], env=environment(there), stdout=log, stderr=log
        )
    try:
        disturb(Jobs(there, cluster), cluster)
        assert process.wait(900) == 1, (tmp_path / "out").read_text()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(120)
    jobs = Jobs(there, cluster)
    said = (tmp_path / "out").read_text()
    assert "1 of 5 runs are missing" in said and "diverged" in said and f"ctt sweep {sweep}" in said
    classes = {jobs.label(n): e["class"] for n, e in jobs.last().items()}
    assert [label for label, failure in classes.items() if failure] == ["learning_rate=1e+30 seed=0"], classes
    ctt(here, *words[:2], *LONG, "launch=local", check=False)
    one, other = artifacts(here), artifacts(there)
    assert one == other and len(one) == 1 + 4 * 3
    status = json.loads(ctt(there, "status", "day", "--json", check=False).stdout)
    assert [job["class"] for job in status["jobs"] if job["state"] == "failed"] == ["diverged"]
    assert os.path.exists(status["jobs"][0]["log"])
