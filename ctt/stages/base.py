"""Stage: kind + version + settings + inputs, a pure function to an artifact; and `build`, which makes what is missing.

A Stage is a description: creating one reads no files and imports no training code. Its key is the sha256 of its canonical
JSON, the keys of its inputs included. `build(target)` works like make: artifacts in the store are used, the others are
built, inputs first, each under its lease, in a folder that survives interruption.
"""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from ctt.core import compute_device, disk_space
from ctt.core.atomic_files import remove_tree
from ctt.core.build_context import PROGRESS, BuildContext, stopping
from ctt.core.errors import CttError, DiskFull, Interrupted, LeaseLost, StageFailed, StoreError
from ctt.core.memory import reset_peak
from ctt.core.process_group import ALONE, ProcessGroup
from ctt.core.secrets import recorded_environment
from ctt.core.settings import canonical_form, digest, digest_of_form
from ctt.stages.code_version import code_version
from ctt.stages.stage_registry import plugin_of
from ctt.store import Artifact, Holder, Lease, Store
from ctt.store.shared_files import fs_delay
from ctt.training.threads import threads


@dataclasses.dataclass(frozen=True)
class Stage:
    """A description of work. Subclasses declare what they need as fields, and by `settings` which of it decides the key."""

    kind: ClassVar[str]
    version: ClassVar[int]
    distributed: ClassVar[bool] = False  # whether several processes can build it (ctt.core.process_group)
    resumes: ClassVar[bool] = False  # whether a later attempt continues from what an interrupted one has left in its folder
    label: ClassVar[str] = ""  # what people read; by default the kind with spaces
    published_seconds: ClassVar[Mapping[str, float]] = {}  # of each unit of effort on one H100, as published
    demo_seconds: ClassVar[Mapping[str, float]] = {}  # the same for the sizes of the sweep `demo` on one CPU core

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if not cls.label and hasattr(cls, "kind"):
            cls.label = cls.kind.replace("_", " ")

    def settings(self) -> Mapping[str, Any]:
        """The settings that decide the result, in addition to the inputs."""
        raise NotImplementedError

    def inputs(self) -> Mapping[str, Stage]:
        """The stages whose artifacts this stage reads; their keys are part of its key."""
        return {}

    def continues(self) -> Sequence[Stage]:
        """Stages from whose artifacts this stage can continue, the furthest first; not in the key."""
        return []

    def branch_points(self) -> Sequence[Stage]:
        """Those of `continues` that other stages continue from too, so that they are built and kept."""
        return []

    def build(self, context: BuildContext, inputs: Mapping[str, Artifact], start: tuple[Stage, Artifact] | None) -> dict[str, Any]:
        """Writes the artifact's files into `context.folder`; returns facts for the manifest.

        start: the furthest stage of `continues` that is in the store, and its artifact.
        """
        raise NotImplementedError

    def effort(self, start: Stage | None) -> dict[str, float]:
        """The amount of work to build this from `start` by unit, for cost estimates, for example {"epochs": 12}."""
        return {"stage": 1.0}

    def size(self) -> float:
        """Approximate size of the artifact in bytes, for estimates."""
        return 0.0

    def weights(self) -> int:
        """Approximate number of weights in its model's layers, computed without torch. 0: it trains no model."""
        return 0

    def cost_class(self) -> str:
        """Digest of what decides the cost of a unit of effort; equal for stages that differ only in their seed."""
        return digest({"kind": self.kind, "version": self.version})

    @cached_property
    def alike(self) -> str:
        """cost_class(), computed once."""
        return self.cost_class()

    def execution(self) -> dict[str, int]:
        """{"threads", "workers"} to build with; recorded, never part of the key."""
        return {"threads": 1, "workers": 1}

    def describe(self) -> dict[str, Any]:
        """The canonical JSON that is hashed into the key; of a plugin's stage also its distribution, version and code."""
        return {
            "kind": self.kind,
            "version": self.version,
            "settings": canonical_form(self.settings()),
            "inputs": {name: stage.key for name, stage in sorted(self.inputs().items())},
            **_plugin(self),
        }

    @cached_property
    def key(self) -> str:
        return digest_of_form(self.describe())


Built = Callable[[Stage, Stage | None, str, float], None]
"""Called with a stage, the stage that it continued from, the device, and the seconds of all attempts."""
Event = Callable[[str, Stage, str], None]
"""Called with what happened ("cached" | "waiting" | "building" | "built"), the stage, and a detail."""


def build(
    target: Stage,
    store: Store,
    *,
    device: str = "cpu",
    on_event: Event = lambda *_: None,
    on_built: Built = lambda *_: None,
    group: ProcessGroup = ALONE,
) -> Artifact:
    """Returns the artifact of `target`; builds what is missing. Raises StageFailed; the store then holds a failure record.
    Of a `group` of several processes, the first one calls this and the others `assist`."""
    options: Any = dict(device=device, on_event=on_event, on_built=on_built, group=group)
    if (found := store.get(target.key)) is not None:
        on_event("cached", target, "")
        return found
    for branch_point in reversed(target.branch_points()):
        build(branch_point, store, **options)
    inputs = {name: build(stage, store, **options) for name, stage in target.inputs().items()}

    def waiting(holder: Holder) -> None:
        on_event("waiting", target, str(holder))
        if stopping():
            raise Interrupted(f"stopped by a signal while {holder} builds {target.kind} {target.key[:12]}")

    with store.lease(target.key, on_wait=waiting) as lease:
        if (found := store.get(target.key)) is not None:  # another process built it meanwhile
            on_event("cached", target, "")
            return found
        start = next(((s, a) for s in target.continues() if (a := store.get(s.key)) is not None), None)
        execution = target.execution()
        folder = store.work_folder(target.key)
        device = compute_device.resolve(device, group)
        context = BuildContext(folder, device=device, beat=lease.check, group=group if target.distributed else ALONE, **execution)
        on_event("building", target, f"from {start[0].key[:12]}" if start else "")
        began = time.time()
        reset_peak(device)
        with _recorded_failures(target, store, lease, folder), _nothing_half_written(target, folder):
            if target.distributed:
                group.broadcast({"key": target.key, "folder": str(folder), "start": start and start[0].key})
            with context.timed(), threads(execution["threads"]):
                facts = target.build(context, inputs, start)
            (folder / PROGRESS).unlink(missing_ok=True)
        manifest = {
            **target.describe(),
            "started_from": start[0].key if start else None,
            "facts": facts,
            "provenance": {**provenance(context, began, store), **_plugin(target)},
        }
        with context.timed():
            artifact = store.publish(target.key, folder, lease, manifest)
        on_event("built", target, f"{time.time() - began:.0f} s")
        on_built(target, start[0] if start else None, context.device, context.seconds)
        return artifact


def _plugin(target: Stage) -> dict[str, Any]:
    plugin = plugin_of(type(target))
    return {} if plugin is None else {"plugin": dataclasses.asdict(plugin)}


@contextlib.contextmanager
def _recorded_failures(target: Stage, store: Store, lease: Lease, folder: Path) -> Iterator[None]:
    """Records an error of the block as a failure of `target`. Raises CttErrors unchanged, others as DiskFull or StageFailed."""
    try:
        yield
    except LeaseLost:
        raise
    except CttError as error:
        store.record_failure(target.key, error.failure, str(error), None)
        raise
    except Exception as error:
        lease.check()  # after a lost lease the folder is moved away, which may be the cause
        if disk_space.is_full(error):
            full = disk_space.full(error, folder, f"{target.kind} {target.key[:12]}: ", target.size())
            store.record_failure(target.key, full.failure, str(full), traceback.format_exc())
            raise full from error
        failure = failure_class(error)
        store.record_failure(target.key, failure, f"{type(error).__name__}: {error}", traceback.format_exc())
        wrapped = StageFailed(f"{target.kind} {target.key[:12]} failed: {type(error).__name__}: {error}")
        wrapped.failure = failure
        raise wrapped from error


@contextlib.contextmanager
def _nothing_half_written(target: Stage, folder: Path) -> Iterator[None]:
    """Where the disk is full, removes what no later attempt of `target` continues from, and what was cut short."""
    try:
        yield
    except Exception as error:
        if disk_space.is_full(error):
            for path in sorted(folder.rglob("*.tmp" if target.resumes else "*")):
                if path.is_dir():
                    remove_tree(path)
                elif path.name != PROGRESS:
                    path.unlink(missing_ok=True)
        raise


def failure_class(error: Exception) -> str:
    """The class of a failure. Out of memory, torch raises its own class on a GPU and a RuntimeError on a CPU."""
    if type(error).__name__ in ("OutOfMemoryError", "MemoryError") or "can't allocate memory" in str(error):
        return "out of memory"
    if disk_space.is_full(error):
        return DiskFull.failure
    if isinstance(error, StageFailed):
        return error.failure
    lost = isinstance(error, ConnectionError) or type(error).__name__ in ("DistBackendError", "DistNetworkError")
    return "killed" if lost or re.search("Connection (closed|reset) by peer", str(error)) else "code error"


def assist(stages: Mapping[str, Stage], store: Store, group: ProcessGroup, *, device: str = "cpu") -> None:
    """For all processes of a group but the first: takes part in building those of `stages` (by key) that the first one
    builds, until it sends None. They take no lease and write nothing. Raises ProcessLost if the first one ends."""
    while (message := group.broadcast()) is not None:
        stage, start = stages[message["key"]], message["start"]
        needed = [*(other.key for other in stage.inputs().values()), *([start] if start else [])]
        if not store.wait_for(needed, fs_delay(), stopping):
            raise StoreError(f"the inputs of {stage.kind} are not visible on this host in {store.root}; see launch.fs_delay_s")
        inputs = {name: a for name, other in stage.inputs().items() if (a := store.get(other.key)) is not None}
        continued = None
        if start:
            continued = next((s, a) for s in stage.continues() if s.key == start and (a := store.get(s.key)))
        execution: Any = stage.execution()
        context = BuildContext(Path(message["folder"]), device=compute_device.resolve(device, group), group=group, **execution)
        with contextlib.suppress(StageFailed), threads(execution["threads"]):  # the first process reports it
            stage.build(context, inputs, continued)


def provenance(context: BuildContext, began: float, store: Store) -> dict[str, Any]:
    """How an artifact was made: git commit and diff, package versions, host, device, numerics, the
    recorded variables of the environment, times, rate, memory.

    began, ended: of the attempt that finished (Unix seconds); seconds: the total of all attempts. rate: {"step": 16.2},
    units of progress per second in the last attempt that reported them; {} if none did. peak_memory_mib: of all attempts.
    """
    packages = ("torch", "lightning", "numpy", "pymunk", "pandas")
    return {
        **code_version(store),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
        "host": platform.node(),
        "device": context.device,
        "numerics": numerics(context),
        "environment": recorded_environment(),
        "began": began,
        "ended": time.time(),
        "seconds": round(context.seconds, 3),
        "rate": {unit: round(rate, 3) for unit, rate in context.rates.items()},
        "peak_memory_mib": round(context.peak, 1),
    }


def seconds_of(provenance: Mapping[str, Any]) -> float:
    """Seconds that all attempts to build an artifact took; of the last attempt alone for older artifacts."""
    return float(provenance.get("seconds", provenance["ended"] - provenance["began"]))


def numerics(context: BuildContext) -> str:
    """What decides the last bits of a result in addition to its key: same key and numerics, same bits."""
    import torch

    name = torch.cuda.get_device_name() if context.device.startswith("cuda") else torch.backends.cpu.get_cpu_capability()
    processes = f", {context.group.size} processes" if context.group.size > 1 else ""
    return f"{name}, torch {torch.__version__}, {context.threads} threads, {platform.machine()}{processes}"
