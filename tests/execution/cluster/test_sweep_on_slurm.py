"""A sweep on a real SLURM: the same table and artifacts, byte for byte, as on this host."""

from pathlib import Path

import pytest

from ctt.execution.jobs import event_log
from ctt.plan import compile_plan
from ctt.sweep import compile_sweep
from tests.prepared import copy_artifacts
from tests.tiny import TINY, artifacts, ctt

pytestmark = pytest.mark.slurm
SWEEP = ["demo", *TINY, "ctt_start_epoch=1", "seed=0"]  # a shared prefix and two runs


def test_a_sweep_on_slurm_gives_the_table_of_a_local_one(
    cluster: object, tiny_sweep: Path, store_with_data: Path, tmp_path: Path
) -> None:
    here, there = copy_artifacts(tiny_sweep, tmp_path / "local"), store_with_data
    ctt(here, "sweep", *SWEEP, "tracking=off")
    done = ctt(there, "sweep", *SWEEP, "launch=slurm", "launch.poll_s=1", "tracking=off")
    assert "runs are missing" not in done.stdout
    tables = [ctt(store, "report", "demo", "--format", "json").stdout for store in (here, there)]
    assert tables[0] == tables[1]
    stages = set(compile_plan(compile_sweep(SWEEP[0], SWEEP[1:])).stages)
    assert artifacts(there) == {key: files for key, files in artifacts(here).items() if key in stages}
    assert set(artifacts(there)) == stages
    ended = [event for event in event_log.read(there / "sweeps/demo/0001/jobs") if event["event"] == "ended"]
    assert len(ended) == 3 and all("_" in event["job_id"] for event in ended), "they ran in SLURM's arrays"
