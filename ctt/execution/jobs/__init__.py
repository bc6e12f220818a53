"""Jobs as files and processes: specs, snapshots, failures, retries, states."""
