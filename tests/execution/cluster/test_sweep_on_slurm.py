"""A sweep on a real SLURM: the same table, byte for byte, as a local one."""

from pathlib import Path

import pytest

from ctt.execution.jobs import event_log
from tests.tiny import TINY, artifacts, ctt

pytestmark = pytest.mark.slurm
SWEEP = ["demo", *TINY, "ctt_start_epoch=1", "seed=0"]  # a shared prefix and two runs


def test_a_sweep_on_slurm_gives_the_table_of_a_local_one(cluster: object, tmp_path: Path) -> None:
    here, there = tmp_path / "local", tmp_path / "slurm"
    ctt(here, "sweep", *SWEEP, "launch=local", "tracking=off")
    done = ctt(there, "sweep", *SWEEP, "launch=slurm", "launch.poll_s=1", "tracking=off")
    assert "runs are missing" not in done.stdout
    tables = [ctt(store, "report", "demo", "--format", "json").stdout for store in (here, there)]
    assert tables[0] == tables[1]
    assert artifacts(here) == artifacts(there)
    ended = [event for event in event_log.read(there / "sweeps/demo/0001/jobs") if event["event"] == "ended"]
    assert len(ended) == 3 and all("_" in event["job_id"] for event in ended), "they ran in SLURM's arrays"
