"""The device that each stage of a sweep has run or runs on, for `ctt status`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ctt.execution.jobs import pid_files
from ctt.execution.jobs.spec import JobSpec
from ctt.planning import Plan
from ctt.store import Store
from ctt.study.run_devices import device_of


def stage_devices(store: Store, plan: Plan, jobs: Sequence[JobSpec]) -> dict[str, str]:
    """Key → "cpu" or "cuda (NVIDIA H200)" of the finished stages, by their manifests, and of those that run, "cuda", by the
    pid files of `jobs`. Stages of older versions, and imported ones, that record none are left out."""
    found: dict[str, str] = {}
    for job in jobs:
        if (key := pid_files.stage_of(job.pid_file)) and (device := pid_files.device_of(job.pid_file)):
            found[key] = device
    return found | {key: device for key, stage in plan.stages.items() if (device := device_of(store, stage))}


def in_words(plan: Plan, devices: Mapping[str, str]) -> str:
    """ "all stages on cpu", or "world model: 4 on cuda (NVIDIA H200), 1 on cpu; ALOE: 5 on cpu"; "" if nothing has run."""
    if len(set(devices.values())) < 2:
        return "".join(f"all stages on {device}" for device in set(devices.values()))
    kinds: dict[str, Counter[str]] = {}
    for key, stage in plan.stages.items():
        if key in devices:
            kinds.setdefault(stage.label, Counter())[devices[key]] += 1
    return "; ".join(f"{label}: {', '.join(f'{n} on {device}' for device, n in one.items())}" for label, one in kinds.items())
