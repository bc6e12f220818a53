"""Devices: on what the finished stages of a run were computed, by their manifests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ctt.core.atomic_files import read_json
from ctt.stages.base import Stage
from ctt.store import Store
from ctt.store.artifact import MANIFEST


def device_of(store: Store, stage: Stage) -> str:
    """ "cpu" or "cuda:0 (NVIDIA H200)"; "" of a stage that is not finished, or whose manifest records none (older, imported)."""
    provenance: Mapping[str, Any] = (read_json(store.path(stage.key) / MANIFEST) or {}).get("provenance", {})
    device = str(provenance.get("device") or "")
    model = provenance.get("numerics", "").partition(",")[0]
    return f"{device} ({model})" if device.startswith("cuda") and model else device


class RunDevices:
    """The devices of runs, each stage looked up once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[str, str] = {}

    def of(self, stages: Sequence[Stage]) -> dict[str, list[str]]:
        """{label of a kind of stage: its devices}; GPUs of one model are one device."""
        found: dict[str, list[str]] = {}
        for stage in stages:
            if stage.key not in self._known:
                self._known[stage.key] = re.sub(r"^cuda:\d+", "cuda", device_of(self.store, stage))
            device = self._known[stage.key]
            if device and device not in found.setdefault(stage.label, []):
                found[stage.label].append(device)
        return {label: devices for label, devices in found.items() if devices}
