"""Jobs in SLURM's queue."""
