"""The private cluster, for the page on SLURM."""

from tests.execution.cluster.conftest import cluster, devcluster

__all__ = ["cluster", "devcluster"]
