"""Stage: kind + version + settings + inputs, a pure function to an artifact; and `build`, which makes what is missing.

A Stage is a description: making one reads no disk and imports no training code. Its key is the sha256 of its canonical
JSON, the keys of its inputs included. `build(target)` works like make: what the store has is used, the rest is built,
inputs first, each under its lease, in a folder that survives interruption.
"""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import re
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from ctt.core.build_context import PROGRESS, BuildContext, stopping
from ctt.core.errors import CttError, Interrupted, LeaseLost, StageFailed
from ctt.core.memory import forget_peak
from ctt.core.process_group import ALONE, ProcessGroup
from ctt.core.settings import canonical_form, digest, digest_of_form
from ctt.stages.code_version import code_version
from ctt.store import Artifact, Holder, Store
from ctt.training.threads import threads


@dataclasses.dataclass(frozen=True)
class Stage:
    """A description of work. Subclasses list what they need as fields and say what of it is their identity."""

    kind: ClassVar[str]
    version: ClassVar[int]
    shared: ClassVar[bool] = False  # whether several processes can build it together (ctt.core.process_group)

    def settings(self) -> Mapping[str, Any]:
        """What, besides the inputs, decides the result."""
        raise NotImplementedError

    def inputs(self) -> Mapping[str, Stage]:
        """The stages whose artifacts this one reads; their keys are part of this one's key."""
        return {}

    def continues(self) -> Sequence[Stage]:
        """Stages that are steps on the way to this one, the furthest first: any of them saves its work; not in the key."""
        return []

    def branch_points(self) -> Sequence[Stage]:
        """Those of `continues` that other stages continue from too, and that are therefore built and kept."""
        return []

    def build(
        self, context: BuildContext, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None
    ) -> dict[str, Any]:
        """Writes the artifact's files into `job.folder`; returns facts for the manifest.

        start: the furthest of `continues` that is in the store.
        """
        raise NotImplementedError

    def effort(self, start: Stage | None) -> dict[str, float]:
        """How much of what has to be done to build this from `start`, for cost estimates: {"epochs": 12} and the like."""
        return {"stage": 1.0}

    def size(self) -> float:
        """Bytes of the artifact, about, for estimates."""
        return 0.0

    def weights(self) -> int:
        """Numbers that the layers of its model learn, about; known without torch. 0: it trains none."""
        return 0

    def alike(self) -> str:
        """Digest of what decides the cost of a unit of effort; stages that differ in their seed alone are alike."""
        return digest({"kind": self.kind, "version": self.version})

    def execution(self) -> dict[str, int]:
        """{"threads", "workers"}: how the work is spread; recorded, never part of the key."""
        return {"threads": 1, "workers": 1}

    def describe(self) -> dict[str, Any]:
        """The canonical JSON that is hashed into the key."""
        return {
            "kind": self.kind,
            "version": self.version,
            "settings": canonical_form(self.settings()),
            "inputs": {name: stage.key for name, stage in sorted(self.inputs().items())},
        }

    @cached_property
    def key(self) -> str:
        return digest_of_form(self.describe())


Built = Callable[
    [Stage, Stage | None, str, float], None
]  # a stage, what it continued from, device, seconds of all attempts
Event = Callable[
    [str, Stage, str], None
]  # what happened ("cached" | "waiting" | "building" | "built"), to which, a detail


def build(
    target: Stage,
    store: Store,
    *,
    device: str = "cpu",
    on_event: Event = lambda *_: None,
    on_built: Built = lambda *_: None,
    world: ProcessGroup = ALONE,
) -> Artifact:
    """The artifact of `target`, building whatever is missing. Raises StageFailed, with the failure recorded in the store.

    Of a `world` of several processes the first calls this and the others `assist`.
    """
    more: Any = dict(device=device, on_event=on_event, on_built=on_built, world=world)
    if (found := store.get(target.key)) is not None:
        on_event("cached", target, "")
        return found
    for branch_point in reversed(target.branch_points()):
        build(branch_point, store, **more)
    inputs = {name: build(stage, store, **more) for name, stage in target.inputs().items()}

    def waiting(holder: Holder) -> None:
        on_event("waiting", target, str(holder))
        if stopping():
            raise Interrupted(f"stopped by a signal while {holder} builds {target.kind} {target.key[:12]}")

    with store.lease(target.key, on_wait=waiting) as lease:
        if (found := store.get(target.key)) is not None:  # somebody built it while we waited
            on_event("cached", target, "")
            return found
        start = next(((s, a) for s in target.continues() if (a := store.get(s.key)) is not None), None)
        spread = target.execution()
        folder = store.work_folder(target.key)
        device = resolve_device(device, world)
        context = BuildContext(
            folder, device=device, beat=lease.check, world=world if target.shared else ALONE, **spread
        )
        on_event("building", target, f"from {start[0].key[:12]}" if start else "")
        began = time.time()
        forget_peak(device)
        try:
            if target.shared:
                world.broadcast({"key": target.key, "folder": str(folder), "start": start and start[0].key})
            with context.timed(), threads(spread["threads"]):
                facts = target.build(context, inputs, start)
            (folder / PROGRESS).unlink(missing_ok=True)
        except LeaseLost:
            raise
        except StageFailed as error:
            store.record_failure(target.key, error.failure, str(error), None)
            raise
        except CttError as error:
            store.record_failure(target.key, "code error", str(error), None)
            raise
        except Exception as error:
            lease.check()  # the folder of an owner who lost his lease is moved away: that is the reason, then
            failure = class_of(error)
            store.record_failure(target.key, failure, f"{type(error).__name__}: {error}", traceback.format_exc())
            wrapped = StageFailed(f"{target.kind} {target.key[:12]} failed: {type(error).__name__}: {error}")
            wrapped.failure = failure
            raise wrapped from error
        manifest = {
            **target.describe(),
            "started_from": start[0].key if start else None,
            "facts": facts,
            "provenance": provenance(context, began, store),
        }
        with context.timed():
            artifact = store.publish(target.key, folder, lease, manifest)
        on_event("built", target, f"{time.time() - began:.0f} s")
        on_built(target, start[0] if start else None, context.device, context.seconds)
        return artifact


def class_of(error: Exception) -> str:
    """The class of a failure. torch tells of memory by a class of its own on a GPU, and by a RuntimeError on a CPU."""
    if type(error).__name__ in ("OutOfMemoryError", "MemoryError") or "can't allocate memory" in str(error):
        return "out of memory"
    if isinstance(error, StageFailed):
        return error.failure
    gone = isinstance(error, ConnectionError) or type(error).__name__ in ("DistBackendError", "DistNetworkError")
    return "killed" if gone or re.search("Connection (closed|reset) by peer", str(error)) else "code error"


def assist(stages: Mapping[str, Stage], store: Store, world: ProcessGroup, *, device: str = "cpu") -> None:
    """What the other processes of a world do: take part in building those of `stages` that the first one builds, until it
    tells them None. Raises Parted if that one is gone. They take no lease and write nothing."""
    while (message := world.broadcast()) is not None:
        stage, start = stages[message["key"]], message["start"]
        inputs = {name: store.get(other.key) for name, other in stage.inputs().items()}
        before = (
            next((s, a) for s in stage.continues() if s.key == start and (a := store.get(s.key))) if start else None
        )
        spread: Any = stage.execution()
        context = BuildContext(Path(message["folder"]), device=resolve_device(device, world), world=world, **spread)
        with contextlib.suppress(StageFailed), threads(spread["threads"]):  # the first one tells of it
            stage.build(context, {name: artifact for name, artifact in inputs.items() if artifact is not None}, before)


def resolve_device(device: str, world: ProcessGroup = ALONE) -> str:
    """`auto` → cuda where there is one, else cpu. Processes of one host take its GPUs in turn."""
    if device == "cpu":
        return device
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return f"cuda:{world.local % torch.cuda.device_count()}" if device == "cuda" and world.size > 1 else device


def provenance(context: BuildContext, began: float, store: Store) -> dict[str, Any]:
    """Who made an artifact: git commit and diff, package versions, host, device, numerics, times, rate, memory.

    began, ended: the attempt that finished (Unix seconds); seconds: what all attempts took together.
    rate: {"step": 16.2}, units of progress a second in the last attempt that counted in them; empty where none was reported.
    peak_memory_mib: of all attempts.
    """
    packages = ("torch", "lightning", "numpy", "pymunk", "pandas")
    return {
        **code_version(store),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
        "host": platform.node(),
        "device": context.device,
        "numerics": numerics(context),
        "began": began,
        "ended": time.time(),
        "seconds": round(context.seconds, 3),
        "rate": {unit: round(rate, 3) for unit, rate in context.rates.items()},
        "peak_memory_mib": round(context.peak, 1),
    }


def seconds_of(provenance: Mapping[str, Any]) -> float:
    """What making an artifact took, in all attempts; of older artifacts only the last one is known."""
    return float(provenance.get("seconds", provenance["ended"] - provenance["began"]))


def numerics(context: BuildContext) -> str:
    """What decides the last bits of a result besides its key: same key and numerics, same bits."""
    import torch

    name = (
        torch.cuda.get_device_name() if context.device.startswith("cuda") else torch.backends.cpu.get_cpu_capability()
    )
    together = f", {context.world.size} processes" if context.world.size > 1 else ""
    return f"{name}, torch {torch.__version__}, {context.threads} threads, {platform.machine()}{together}"
