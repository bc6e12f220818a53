"""Variables of a pod or an allocation around one process: it is alone, waits for nobody and computes the same bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import TINY, artifacts, environment

AMBIENT = {
    # torchrun, or a worker pod of a PyTorchJob
    "WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "192.0.2.1",
    "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "none",
    # srun --pty bash, in an allocation of four tasks
    "SLURM_JOB_ID": "41", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_STEP_NODELIST": "n[1-2]",
}  # fmt: skip
SMALL = [one.replace("world_model.epochs=3", "world_model.epochs=1") for one in TINY]
RUN = ["run", *SMALL, "ctt_start_epoch=0", "ctt_inv_weight=0.1", "seed=0", "tracking=off"]


@pytest.mark.slow
def test_a_run_among_anothers_variables_ends_in_the_same_bytes(store_with_data: Path, tmp_path: Path) -> None:
    plain, ambient = store_with_data, tmp_path / "ambient" / "store"
    ambient.parent.mkdir()
    subprocess.run(["cp", "-a", str(plain), str(ambient)], check=True)
    for store, variables in ((plain, {}), (ambient, AMBIENT)):
        inherited = {name: value for name, value in environment(store).items() if name not in AMBIENT}
        done = subprocess.run(
            [sys.executable, "-m", "ctt", *RUN], env={**inherited, **variables}, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert artifacts(plain) == artifacts(ambient) and len(artifacts(plain)) > 3
