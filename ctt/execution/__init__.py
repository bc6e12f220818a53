"""Running a plan's jobs: on this host, on SLURM, or by Hydra's other launchers."""
