"""How often a step waits for the device or copies from memory that is not pinned, by torch's profiler."""

from __future__ import annotations

import dataclasses
from collections import Counter

from torch.profiler import ProfilerActivity, profile

from ctt.models.graphs.graph_source import graph_sources
from ctt.training.trainer import Segment, train_segment
from ctt.training.vqa import VqaLearner
from tests.gpu.checks import Outcome
from tests.gpu.material import BOTH_LOSSES, Material
from tests.gpu.speed import StepClock, learner_of_source, world_model_learner

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy", "cuStreamSynchronize")
"""Calls of the driver that return once the device has ended its work."""
READS = ("aten::_local_scalar_dense",)
"""Reads of a single value, on any device."""
PAGEABLE = "Pageable"
"""In the names of copies from or to memory that is not pinned: the host waits for them too."""


class Profiled(StepClock):
    """Profiles the steps that it would time."""

    def begin(self) -> None:
        super().begin()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.material.on_gpu else [])]
        self.profiler = profile(activities=activities)
        self.profiler.start()

    def end(self) -> None:
        self.profiler.stop()  # before the clock's own wait
        super().end()

    def counted(self) -> dict[str, float]:
        """Events of a step on average."""
        found: Counter[str] = Counter()
        for event in self.profiler.events() or ():
            name = event.name
            if name in WAITS or name in READS or name.startswith("Memcpy") and PAGEABLE in name:
                found[name] += 1
            elif name in ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaLaunchKernelExC"):
                found["launches"] += 1
        return {name: round(count / (self.last - self.first), 2) for name, count in sorted(found.items())}


def waits_of_steps(material: Material, out: Outcome) -> None:
    """Of the world model's step without and with both losses, with every source, and of ALOE's step."""
    first, last = material.of((6, 12), (1, 2))
    cases = {"plain": (), "both losses": BOTH_LOSSES}
    learners = {name: world_model_learner(material, material.recipe("fast", *losses), last) for name, losses in cases.items()}
    learners |= {f"graph {source}": learner_of_source(material, source, last) for source in graph_sources()}
    for name, learner in learners.items():
        clock = Profiled(material, first, last)
        train_segment(learner, Segment(1), seed=0, context=clock)
        record(out, name, clock)
    settings = dataclasses.replace(material.recipe("fast").aloe, epochs=1, schedule_epochs=None)
    clock = Profiled(material, first, last)
    learner = VqaLearner(settings, 0, material.dataset, material.rollouts, clock)
    train_segment(learner, Segment(1), seed=0, context=clock)
    record(out, "ALOE", clock)


def record(out: Outcome, name: str, clock: Profiled) -> None:
    found = clock.counted()
    waits = sum(found.get(event, 0) for event in WAITS) + sum(n for event, n in found.items() if PAGEABLE in event)
    out.values[name] = {"host_waits_per_step": round(waits, 2), "events_per_step": found}
    out.expect(bool(clock.measured), f"{name}: no step was profiled")
