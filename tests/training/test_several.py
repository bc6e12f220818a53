"""Several processes that train one model: equal parameters, one writer, and the results of a single process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ctt.core import process_group
from ctt.core.build_context import read_metrics
from ctt.core.device_use import MEASURED
from ctt.core.errors import SettingError
from ctt.core.process_group import ALONE, ProcessGroup, of_environment
from ctt.training.state import MODEL, OPTIMIZER, WEIGHTS
from ctt.training.training_settings import WorldModelSettings
from ctt.training.world_model import WorldModelLearner
from tests.training import several
from tests.training.standin import StandIn

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder written by two gloo processes on the loopback interface."""
    folder = tmp_path_factory.mktemp("several")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    common |= {"CTT_JOIN": "torchrun", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "tests.training.several", str(folder)]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    ranks = [subprocess.Popen(command, env={**common, "RANK": str(rank)}, **pipes) for rank in range(2)]  # type: ignore[call-overload]
    try:
        output = [rank.communicate(timeout=400)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(output)
    return folder


@pytest.mark.parametrize("name", [*several.SCENARIOS, "stopped"])
def test_all_processes_have_the_parameters_that_were_written(trained: Path, name: str) -> None:
    first, second = (torch.load(trained / f"{name}.{rank}.pt") for rank in range(2))
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
    file = trained / name / (WEIGHTS if (trained / name / WEIGHTS).exists() else MODEL)
    assert all(torch.equal(value, first[key]) for key, value in load_file(file).items())


def test_two_processes_train_as_a_single_one_up_to_rounding(trained: Path, tmp_path: Path) -> None:
    """With a graph of the whole batch, both losses, slots out of view, a batch that can't be halved, and other micro-batches.
    Steps on half of the batch each would give other results."""
    several.train(tmp_path / "alone", "whole batch", ALONE)
    single, both = (load_file(folder / WEIGHTS) for folder in (tmp_path / "alone", trained / "whole batch"))
    for key, value in single.items():
        if key.endswith("in_proj_bias"):  # softmax does not see a key's bias: its gradient is rounding alone
            value, both[key] = (x.unflatten(0, (3, -1))[::2] for x in (value, both[key]))
        assert torch.allclose(value, both[key], rtol=1e-3, atol=1e-5), key
    lines = [read_metrics(folder / "metrics.jsonl") for folder in (tmp_path / "alone", trained / "whole batch")]
    assert len(lines[0]) == len(lines[1]) == 3
    for one, two in zip(*lines, strict=True):
        assert one.keys() == two.keys() and "validation_error" in one
        assert all(
            two[name] == pytest.approx(value, rel=1e-3, abs=1e-6) for name, value in one.items() if name not in ("t", *MEASURED)
        )
    assert all(line["invariance"] > 0 and line["sufficiency"] > 0 for line in lines[0][1:]), "both losses act"


def test_processes_draw_different_dropout_masks(trained: Path, tmp_path: Path) -> None:
    """Each process draws masks for its part of the batch, so a single process gets other results."""
    several.train(tmp_path / "alone", "dropout", ALONE)
    single, both = (load_file(folder / MODEL) for folder in (tmp_path / "alone", trained / "dropout"))
    assert any(not torch.allclose(value, both[key], rtol=1e-3, atol=1e-5) for key, value in single.items())


def test_stopping_one_process_and_resuming_gives_the_bytes_of_uninterrupted_training(trained: Path) -> None:
    for name in (MODEL, OPTIMIZER):
        assert (trained / "stopped" / name).read_bytes() == (trained / "dropout" / name).read_bytes()
    assert not (trained / "diverged" / MODEL).exists(), "one process that diverges stops all"


def test_rank_and_size_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "4")  # a batch script, not one of srun's tasks
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert of_environment() == ALONE and ALONE.writer
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("RANK", "1")
    assert of_environment() == ALONE, "an allocation's or a pod's variables, without a launcher that asks to join"
    monkeypatch.setenv("CTT_JOIN", "srun")
    monkeypatch.setenv("SLURM_PROCID", "2")
    monkeypatch.setenv("SLURM_LOCALID", "1")
    monkeypatch.setenv("SLURM_STEP_NODELIST", "no-such-node-[7-9],x")
    monkeypatch.setenv("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.9")
    monkeypatch.setenv("SLURM_JOB_ID", "41234")
    assert of_environment() == ProcessGroup(2, 3, 1, "127.0.0.9", 21234)
    monkeypatch.setenv("SLURM_STEP_NODELIST", "localhost")
    assert of_environment().address == "127.0.0.1"
    shares = [ProcessGroup(rank, 3).share(10) for rank in range(3)]
    assert [i for share in shares for i in range(10)[share]] == list(range(10))


def test_waiting_for_others_is_reported_and_ends_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process_group, "QUIET", 0.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for rank in (0, 1):  # the writer that nobody joins, and one whose writer never comes
        asked = iter([False] * 3 + [True] * 9)
        assert not ProcessGroup(rank, 2, port=port).connect(lambda asked=asked: next(asked))  # type: ignore[misc]
        assert f"process {rank} waits for 2 processes at 127.0.0.1:{port}" in capsys.readouterr().out


def test_more_processes_than_windows_are_refused() -> None:
    small = {**several.SMALL, "batch_size": 2}
    learner = WorldModelLearner(WorldModelSettings(**small), several.METHOD, 2, 3, StandIn(), "cpu")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="batch_size 2 can't be shared by 3"):
        learner.join(ProcessGroup(0, 3))


def test_a_single_process_does_not_import_torch() -> None:
    """So a job with nothing to do costs little."""
    program = "import sys; from ctt.core.process_group import ALONE;"
    program += "ALONE.connect(); ALONE.broadcast(); ALONE.close(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    assert done.stdout == b"False\n"
