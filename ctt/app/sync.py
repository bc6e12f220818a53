"""`ctt sync`: brings MLflow up to date with the store."""

from __future__ import annotations

import threading

from ctt.store import Store
from ctt.study.tracked_sweep import store_syncer
from ctt.tracking.tracking_settings import TrackingSettings


def sync_store(store: Store, tracking: TrackingSettings, *, follow: bool, rebuild: bool) -> int:
    """Sends what is new, once or (follow) until Ctrl-C; rebuild asks MLflow about every run. Exit code 1 if it is down."""
    syncer = store_syncer(tracking, store, rebuild=rebuild)
    if follow:
        syncer.follow(threading.Event())
        return 0
    sent = syncer.sync_once(patient=False)
    if not syncer.down:
        print(f"{sent} metric values sent to {tracking.kind}")
    return int(syncer.down)
