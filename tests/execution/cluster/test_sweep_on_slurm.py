"""A sweep on a real SLURM: the same table and artifacts, byte for byte, as on this host."""

from pathlib import Path

import pytest

from ctt.execution.jobs import event_log
from tests.tiny import TINY_ONE_SEED, artifacts, ctt

pytestmark = pytest.mark.slurm


def test_a_sweep_on_slurm_gives_the_table_of_a_local_one(cluster: object, tiny_one_seed: Path, store_with_data: Path) -> None:
    here, there = tiny_one_seed, store_with_data
    done = ctt(there, "sweep", *TINY_ONE_SEED, "launch=slurm", "launch.poll_s=1", "tracking=off")
    assert "runs are missing" not in done.stdout
    tables = [ctt(store, "report", "demo", "--format", "json").stdout for store in (here, there)]
    assert tables[0] == tables[1]
    assert artifacts(here) == artifacts(there)
    ended = [event for event in event_log.read(there / "sweeps/demo/0001/jobs") if event["event"] == "ended"]
    assert len(ended) == 3 and all("_" in event["job_id"] for event in ended), "they ran in SLURM's arrays"
