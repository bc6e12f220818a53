"""GPUs that were asked for are used, or the job fails with what it saw."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from ctt.core import compute_device
from ctt.core.compute_device import REQUESTED, GpuUnusable
from ctt.core.process_group import ProcessGroup


@pytest.fixture(autouse=True)
def no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose driver does not work; returns its nvidia-smi."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("CUDA_VISIBLE_DEVICES", REQUESTED):
        monkeypatch.delenv(name, raising=False)
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return program


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("CUDA_VISIBLE_DEVICES", "0", "CUDA_VISIBLE_DEVICES=0 asks for a GPU"),
        ("CUDA_VISIBLE_DEVICES", "GPU-1a2b,1", "CUDA_VISIBLE_DEVICES=GPU-1a2b,1 asks"),
        (REQUESTED, "launch.gpus_per_node=2", "launch.gpus_per_node=2 asks"),
    ],
)
def test_a_request_without_a_gpu_is_an_error_unless_the_device_is_the_cpu(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    assert compute_device.resolve("auto") == "cpu"
    monkeypatch.setenv(name, value)
    with pytest.raises(GpuUnusable) as error:
        compute_device.resolve("auto")
    text = str(error.value)
    assert text.startswith(message) and os.uname().nodename in text and "device=cpu" in text
    assert torch.__version__ in text and "NVIDIA-SMI has failed because" in text, "what it saw"
    assert compute_device.resolve("cpu") == "cpu"


@pytest.mark.parametrize("value", ["", "-1", "NoDevFiles"])
def test_no_visible_gpu_asks_for_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert compute_device.resolve("auto") == "cpu"


def test_device_cuda_asks_for_one(no_gpu: Path) -> None:
    no_gpu.unlink()
    with pytest.raises(GpuUnusable, match="device=cuda asks for a GPU.*nvidia-smi is not on PATH"):
        compute_device.resolve("cuda")


def test_the_processes_of_a_host_are_distributed_over_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert compute_device.resolve("auto") == "cuda"
    assert [compute_device.resolve("auto", ProcessGroup(n, 3, n)) for n in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
