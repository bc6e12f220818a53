"""Tracking: MLflow as a view of the store. The files of the store are the truth; this package only copies them.

`TrackedRun` lists the stage folders that a run is made of, `Syncer` tails their metrics files and sends what is new,
`serve` shows the result. `ctt/tracking/view.py` is the only file of ctt that imports mlflow; `mlflow_app.py` is imported by it.
"""
