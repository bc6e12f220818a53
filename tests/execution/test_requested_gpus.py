"""A job that was given GPUs it cannot use, or whose setup fails, ends before any work, and says why."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from ctt.app.stage_devices import in_words, stage_devices
from ctt.app.sweep import first_failure
from ctt.core.compute_device import REQUESTED
from ctt.core.errors import UsageError
from ctt.core.resources import LaunchSettings, LocalSettings
from ctt.execution.jobs import job_process, pid_files, spec
from ctt.execution.jobs.failures import Ending, Failure, classify
from ctt.execution.local import devices
from ctt.execution.local.local_launcher import LocalLauncher
from ctt.execution.slurm import arrays
from ctt.execution.slurm.sacct import Account
from ctt.planning import compile_plan
from ctt.store import Store
from ctt.sweep import compile_sweep
from tests.made_store import made_store
from tests.tiny import TINY


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_job_without_its_gpu_builds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    store = Store.open(tmp_path / "store")
    plan = compile_plan(compile_sweep("demo", [*TINY, "seed=0"]))
    target, job = plan.jobs[0].target, spec.freeze(plan.jobs[0], store, tmp_path, 0)
    content = json.loads(job.path.read_text())
    content["config"]["device"] = device
    job.path.write_text(json.dumps(content))
    monkeypatch.setattr("ctt.stages.base.build", lambda target, store, **more: None)  # nothing is to be trained here
    outcome = job_process.run(job.path)
    if device == "cpu":
        assert outcome["failure"] is None and first_failure(store, [target]) == "not run yet"
    else:
        assert outcome["failure"] == "code error" and "CUDA_VISIBLE_DEVICES=0 asks for a GPU" in outcome["message"]
        assert first_failure(store, [target]).endswith(f"code error: {outcome['message']}"), "at the end of a sweep"
    assert job.outcome() == outcome | {name: job.outcome()[name] for name in ("time", "host")}  # type: ignore[index]


def parameters(**settings: object) -> dict[str, object]:
    chosen = LaunchSettings(kind="slurm", **settings)  # type: ignore[arg-type]
    return arrays.parameters("x", chosen, chosen.of(False), {}, ())


@pytest.mark.parametrize(
    "settings, asked",
    [
        ({"gpus_per_node": 2}, "launch.gpus_per_node=2"),
        ({"gres": "gpu:a100:1"}, "launch.gres=gpu:a100:1"),
        ({"options": ["--gpus-per-task=1"]}, "launch.options (--gpus-per-task=1)"),
        ({"options": ["--tres-per-task=cpu:1,gres/gpu:2"]}, "launch.options (--tres-per-task=cpu:1,gres/gpu:2)"),
        ({"options": ["--tres-per-task=cpu:1"]}, None),
        ({"gpus_per_node": 0}, None),
        ({"gres": "tmp:10G"}, None),
        ({"options": ["--exclusive"]}, None),
    ],
)
def test_a_job_of_slurm_knows_that_gpus_were_asked_for(settings: dict[str, object], asked: str | None) -> None:
    lines = [line for line in parameters(**settings)["setup"] if REQUESTED in line]  # type: ignore[attr-defined]
    assert lines == ([f"export {REQUESTED}={arrays.shlex.quote(asked)}"] if asked else [])


@pytest.mark.parametrize(
    "setup, failed",
    [
        (["module load cuda"], "module load cuda"),
        (["export A='it is'", "test \"$A\" = 'it is not'  # a remark"], "test \"$A\" = 'it is not'  # a remark"),
        (["export A=1", "test $A = 1", "false || true"], None),
    ],
)
def test_a_setup_line_that_fails_ends_the_job(tmp_path: Path, setup: list[str], failed: str | None) -> None:
    script = "\n".join([*parameters(setup=setup)["setup"], "echo it begins"])  # type: ignore[misc]
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    if failed is None:
        assert done.returncode == 0 and done.stdout == "it begins\n"
        return
    assert done.stdout == "" and done.returncode == arrays.BAD_SETUP
    for account in (None, Account("1_0", "FAILED", arrays.BAD_SETUP, nodes="n1")):
        found = classify(Ending(account=account, log=done.stderr))
        assert found is not None and found.failure is Failure.CODE_ERROR
        assert found.message.startswith(f"launch.setup failed: {failed} (exit code ")


def test_more_gpus_a_job_than_the_host_has_are_refused_before_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_driver", lambda: {"0": "GPU-a", "1": "GPU-b"})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    LocalLauncher.check_host(LocalSettings(gpus_per_job=2))
    with pytest.raises(UsageError, match=r"launch.gpus_per_job=3, and this host has 2 GPUs for jobs \(0, 1\)"):
        LocalLauncher.check_host(LocalSettings(gpus_per_job=3))
    with pytest.raises(UsageError, match=r"launch.gpus_per_job=2, and this host has 1 GPU for jobs \(1\)"):
        LocalLauncher.check_host(LocalSettings(gpus_per_job=2, devices=["1"]))
    monkeypatch.setattr(devices, "_driver", dict)
    LocalLauncher.check_host(LocalSettings(gpus_per_job=1))
    with pytest.raises(UsageError, match="launch.gpus_per_job=2, and this host has none"):
        LocalLauncher.check_host(LocalSettings(gpus_per_job=2))


def test_the_status_names_the_device_of_every_stage(tmp_path: Path) -> None:
    store, plan = made_store(tmp_path / "store", "weights", "ctt_inv_weight=0,0.2", "ctt_suf_weight=0", "seed=0")
    assert in_words(plan, stage_devices(store, plan, [])) == "", "made-up artifacts record none"
    finished = [key for key in plan.stages if store.has(key)]
    for key in finished:
        manifest = json.loads((store.path(key) / "manifest.json").read_text())
        gpu = manifest["kind"] == "world_model"
        manifest["provenance"] |= {"device": "cuda:1" if gpu else "cpu", "numerics": "NVIDIA H200, torch 2" if gpu else "AVX2"}
        (store.path(key) / "manifest.json").chmod(0o644)
        (store.path(key) / "manifest.json").write_text(json.dumps(manifest))
    running = next(key for key in plan.stages if not store.has(key))
    job = spec.JobSpec(0, tmp_path / "0000.json", "x", running, frozenset(), (running,), (running,))
    pid_files.write_pid_file(job.pid_file, running, "cuda")
    found = stage_devices(store, plan, [job])
    assert found.keys() == {*finished, running} and found[running] == "cuda"
    text = in_words(plan, found)
    trained = sum(plan.stages[key].kind == "world_model" for key in finished)
    assert f"world model: {trained} on cuda:1 (NVIDIA H200)" in text and "ALOE: 2 on cpu" in text, text
    assert in_words(plan, dict.fromkeys(finished, "cpu")) == "all stages on cpu"
