"""What every package stands on: errors, units, typed settings, files, processes, memory. Nothing of the domain."""
