"""`ctt ui`: MLflow's web interface on the runs of a store."""

from __future__ import annotations

from ctt.store import Store
from ctt.study.tracked_sweep import store_syncer
from ctt.tracking.server import serve
from ctt.tracking.tracking_settings import TrackingSettings


def serve_ui(store: Store, tracking: TrackingSettings, host: str, port: int) -> int:
    """Serves MLflow and keeps it up to date with the store until Ctrl-C."""
    serve(store.root, host, port, syncer=store_syncer(tracking, store))
    return 0
